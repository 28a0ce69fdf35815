"""One forward pass that remembers, for every layer with a rule, its input and where its output's gradient will be."""

from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge

from cl_fisher.error import InputError
from cl_fisher.fisher.rule.linear import LinearRule
from cl_fisher.fisher.rule.rule import LayerUse, Rule

RULES: tuple[Rule, ...] = (LinearRule(),)


def forward(model: nn.Module, inputs: Any, trainable: Mapping[str, nn.Parameter]) -> tuple[Tensor, list[LayerUse]]:
    """Outputs [N, C] with their graph, and the uses of layers whose parameters are used nowhere else.

    A layer that is called twice, or shares a parameter with another, is left out: its gradients must be summed over
    the uses before they are squared, which the fallback does.
    """
    names = {id(p): name for name, p in trainable.items()}
    uses: list[LayerUse] = []

    def remember(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        own = {local: names[id(p)] for local, p in module.named_parameters(recurse=False) if id(p) in names}
        rule = next((r for r in RULES if len(args) == 1 and r.covers(module, args[0])), None)
        if own and rule is not None:
            uses.append(LayerUse(own, module, rule, args[0].detach(), get_gradient_edge(output)))

    with ExitStack() as hooks:
        for module in model.modules():
            if next(module.parameters(recurse=False), None) is not None:
                hooks.callback(module.register_forward_hook(remember).remove)
        outputs = model(inputs)
    check_outputs(outputs)
    n = Counter(name for use in uses for name in use.names.values())
    return outputs, [
        u for u in uses if all(n[name] == 1 for name in u.names.values()) and len(u.inputs) == len(outputs)
    ]


def check_outputs(outputs: Any) -> None:
    """Raise `InputError` unless these are outputs that a Fisher can be taken of."""
    if not isinstance(outputs, Tensor) or outputs.dim() != 2:
        kind = f"a tensor of shape {tuple(outputs.shape)}" if isinstance(outputs, Tensor) else type(outputs).__name__
        raise InputError(f"the model returned {kind}; the Fisher needs outputs of shape [examples, classes]")
    if not outputs.requires_grad:
        raise InputError("no parameter of the model requires a gradient, so it has no Fisher")


def disagreeing(
    uses: list[LayerUse], outputs: Tensor, cotangent: Tensor, trainable: Mapping[str, nn.Parameter]
) -> set[str]:
    """Names whose gradient by rule is not autograd's: a parameter with a further use that no hook has seen.

    Examples are `nn.functional.linear(x, self.layer.weight)` and a layer whose examples mix in its first dimension.
    """
    names = [name for use in uses for name in use.names.values()]
    if not names:
        return set()
    weights = [trainable[name] for name in names]
    by_autograd = torch.autograd.grad(outputs, weights, cotangent, retain_graph=True, materialize_grads=True)
    at_edges = torch.autograd.grad(
        outputs, [use.edge for use in uses], cotangent, retain_graph=True, materialize_grads=True
    )
    by_rule = {
        use.names[local]: gradient
        for use, at_edge in zip(uses, at_edges, strict=True)
        for local, gradient in use.rule.gradient(use.module, use.inputs, at_edge).items()
        if local in use.names
    }
    return {
        name
        for name, true in zip(names, by_autograd, strict=True)
        if name not in by_rule or not torch.allclose(by_rule[name], true, rtol=1e-2, atol=1e-3 * _largest(true))
    }


def _largest(tensor: Tensor) -> float:
    return tensor.abs().max().item() if tensor.numel() else 0.0
