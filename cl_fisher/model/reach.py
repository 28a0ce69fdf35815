"""Which layers of a network take part in its outputs as layers: they are called, and a gradient comes back to them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from cl_fisher.fisher.undisturbed import undisturbed

_TRIES = 5


def reached(model: nn.Module, output: nn.Linear, layers: Sequence[str], input_shape: Sequence[int]) -> list[str]:
    """Those of the named layers that are called and whose own output matters for that of the network.

    Some networks take a layer's weight and never call the layer, others have branches that are shut off. It is tried
    with random inputs and random weights in these layers and in the one called `output`, more than once, for units may
    be dead by chance. The model is left as it was.
    """
    found: set[str] = set()

    def watch(name: str, value: Tensor) -> None:
        value.register_hook(lambda gradient: found.add(name) if gradient.any() else None)

    draw = torch.Generator().manual_seed(0)
    drawn = [f"{name}.weight" for name, m in model.named_modules() if m is output or name in layers]
    weights = dict(model.named_parameters())
    with undisturbed(model):
        hooks = [
            model.get_submodule(name).register_forward_hook(lambda *call, name=name: watch(name, call[2]))
            for name in layers
        ]
        try:
            for _ in range(_TRIES):
                if len(found) < len(layers):
                    shapes = {name: weights[name].shape for name in drawn}
                    given = {n: torch.randn(s, generator=draw) / s[1:].numel() ** 0.5 for n, s in shapes.items()}
                    inputs = torch.randn(2, *input_shape, generator=draw)
                    outputs = functional_call(model, {n: w.requires_grad_() for n, w in given.items()}, inputs)
                    cotangent = torch.randn(outputs.shape, generator=draw)
                    torch.autograd.grad(outputs, list(given.values()), cotangent, allow_unused=True)
        finally:
            for hook in hooks:
                hook.remove()
    return [name for name in layers if name in found]
