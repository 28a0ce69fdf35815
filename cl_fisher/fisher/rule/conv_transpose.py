"""Transposed convolutions."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from cl_fisher.fisher.rule.correlation import Correlation
from cl_fisher.fisher.rule.products import sum_of_squares
from cl_fisher.fisher.rule.rule import Rule

_DIMENSIONS: dict[type[nn.Module], int] = {nn.ConvTranspose1d: 1, nn.ConvTranspose2d: 2, nn.ConvTranspose3d: 3}


class ConvTransposeRule(Rule):
    """A convolution with input and output exchanged: the input meets patches of the output's gradient."""

    def covers(self, module: Any, inputs: Tensor) -> bool:
        """Any options; a single example without a batch dimension is none."""
        n = _DIMENSIONS.get(type(module))
        return n is not None and inputs.dim() in (n + 2, n + 3) and inputs.shape[-n - 1] == module.in_channels

    def gradient(self, module: Any, inputs: Tensor, gradient: Tensor) -> dict[str, Tensor]:
        """As a backward pass does it."""
        g = _images(module, gradient)
        weight = _correlation(module).summed(_seen(module, inputs, gradient), _images(module, inputs))
        return {"weight": weight} | ({} if module.bias is None else {"bias": g.flatten(3).sum((0, 1, 3))})

    def per_example(self, module: Any, inputs: Tensor, gradient: Tensor) -> dict[str, Tensor]:
        """By a convolution whose groups are the examples."""
        g = _images(module, gradient)
        weight = _correlation(module).each(_seen(module, inputs, gradient), _images(module, inputs))
        return {"weight": weight} | ({} if module.bias is None else {"bias": g.flatten(3).sum((1, 3))})

    def squares(self, module: Any, inputs: Tensor, gradients: list[Tensor]) -> dict[str, Tensor]:
        """By such convolutions of all columns."""
        seen = [_seen(module, inputs, g) for g in gradients]
        weight = _correlation(module).squares(seen, [_images(module, inputs)])
        if module.bias is None:
            return {"weight": weight}
        return {"weight": weight, "bias": sum_of_squares(_images(module, g).flatten(3).sum((1, 3)) for g in gradients)}


def _images(module: Any, tensor: Tensor) -> Tensor:
    """[N, images, channels, positions...], with one image if there is no such dimension."""
    return tensor if tensor.dim() == len(module.kernel_size) + 3 else tensor[:, None]


def _seen(module: Any, inputs: Tensor, gradient: Tensor) -> Tensor:
    """The gradient at all positions that the weight reaches, zero where `padding` cuts them off.

    An output padding makes the output longer: it gives some of these positions back, and may add some out of reach.
    """
    g, n, padding = _images(module, gradient), len(module.kernel_size), []
    for dim in reversed(range(n)):
        kernel, stride, dilation = module.kernel_size[dim], module.stride[dim], module.dilation[dim]
        reached = (inputs.shape[dim - n] - 1) * stride + dilation * (kernel - 1) + 1
        before = module.padding[dim]
        padding += [before, reached - before - g.shape[dim - n]]  # below zero: cut off
    return functional.pad(g, padding) if any(padding) else g


def _correlation(module: Any) -> Correlation:
    no_padding = (0,) * len(module.kernel_size)
    return Correlation(module.weight.shape, module.stride, no_padding, module.dilation, module.groups)
