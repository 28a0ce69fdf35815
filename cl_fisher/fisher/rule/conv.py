"""Convolutions."""

import math
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from cl_fisher.fisher.rule.correlation import Correlation
from cl_fisher.fisher.rule.products import squared_products, sum_of_squares
from cl_fisher.fisher.rule.rule import CHUNK_BYTES, Rule

_DIMENSIONS: dict[type[nn.Module], int] = {nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}
_FEW_POSITIONS = 150
_LARGE_BYTES = 2**19
"""With fewer positions and a larger weight than this, matrix products were measured to beat convolutions."""


class ConvRule(Rule):
    """y = W * x + b, x [N, channels, positions...] or several such images, [N, images, channels, ...]."""

    def covers(self, module: Any, inputs: Tensor) -> bool:
        """Any options; a single example without a batch dimension is none."""
        n = _DIMENSIONS.get(type(module))
        return n is not None and inputs.dim() in (n + 2, n + 3) and inputs.shape[-n - 1] == module.in_channels

    def gradient(self, module: Any, inputs: Tensor, gradient: Tensor) -> dict[str, Tensor]:
        """As a backward pass does it."""
        g = _images(module, gradient)
        weight = _correlation(module).summed(_padded(module, inputs), g)
        return {"weight": weight} | ({} if module.bias is None else {"bias": g.flatten(3).sum((0, 1, 3))})

    def per_example(self, module: Any, inputs: Tensor, gradient: Tensor) -> dict[str, Tensor]:
        """By a convolution whose groups are the examples (Rochette et al. 2019)."""
        g = _images(module, gradient)
        weight = _correlation(module).each(_padded(module, inputs), g)
        return {"weight": weight} | ({} if module.bias is None else {"bias": g.flatten(3).sum((1, 3))})

    def squares(self, module: Any, inputs: Tensor, gradients: list[Tensor]) -> dict[str, Tensor]:
        """By such convolutions of all columns, or by products of patches: whichever is faster."""
        columns = [_images(module, g) for g in gradients]
        if self.is_matrix(module) and _prefers_patches(module, columns[0][0, :, 0].numel()):
            weight = self._squares_by_patches(module, inputs, gradients)
        else:
            weight = _correlation(module).squares([_padded(module, inputs)], columns)
        if module.bias is None:
            return {"weight": weight}
        return {"weight": weight, "bias": sum_of_squares(g.flatten(3).sum((1, 3)) for g in columns)}

    def _squares_by_patches(self, module: Any, inputs: Tensor, gradients: list[Tensor]) -> Tensor:
        n_bytes = self.rows(module, inputs[:1]).numel() * inputs.element_size()
        size = max(1, CHUNK_BYTES // n_bytes)
        total = inputs.new_zeros(module.weight.flatten(1).shape)
        for start in range(0, len(inputs), size):
            part = slice(start, start + size)
            left = [self.row_gradients(module, g[part]).mT for g in gradients]
            total += squared_products(left, self.rows(module, inputs[part]))
        return total.view_as(module.weight)

    def is_matrix(self, module: Any) -> bool:
        """Unless its channels are in groups."""
        return module.groups == 1

    def rows(self, module: Any, inputs: Tensor) -> Tensor:
        """The patch that each output position sees, [N, S, channels * kernel]."""
        x, n = _padded(module, inputs, explicitly=True), len(module.kernel_size)
        for dim in range(n):
            kernel, stride, dilation = module.kernel_size[dim], module.stride[dim], module.dilation[dim]
            x = x.unfold(3 + dim, (kernel - 1) * dilation + 1, stride)[..., ::dilation]
        # a copy with positions last is the fastest
        patches = x.permute(0, 1, 2, *range(n + 3, 2 * n + 3), *range(3, n + 3)).flatten(2, n + 2).flatten(3)
        return patches.mT.flatten(1, 2)

    def row_gradients(self, module: Any, gradient: Tensor) -> Tensor:
        """The gradients, positions flattened."""
        return _images(module, gradient).flatten(3).mT.flatten(1, 2)


def _prefers_patches(module: Any, n_positions: int) -> bool:
    if math.prod(module.kernel_size) == 1:
        return True
    return n_positions <= _FEW_POSITIONS and module.weight.numel() * module.weight.element_size() >= _LARGE_BYTES


def _images(module: Any, tensor: Tensor) -> Tensor:
    """[N, images, channels, positions...], with one image if there is no such dimension."""
    return tensor if tensor.dim() == len(module.kernel_size) + 3 else tensor[:, None]


def _padding(module: Any) -> list[tuple[int, int]]:
    """Before and after, for each dimension."""
    if module.padding == "valid":
        return [(0, 0) for _ in module.kernel_size]
    if module.padding == "same":
        totals = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    return [(p, p) for p in module.padding]


def _leaves_padding(module: Any) -> bool:
    """Whether a convolution can do the padding: with zeros, the same on both sides."""
    return module.padding_mode == "zeros" and all(before == after for before, after in _padding(module))


def _padded(module: Any, inputs: Tensor, *, explicitly: bool = False) -> Tensor:
    """The inputs [N, images, channels, positions...], with the padding that `_correlation` does not do, or with all."""
    x = _images(module, inputs)
    if (not explicitly and _leaves_padding(module)) or not any(map(any, _padding(module))):
        return x
    last_first = [p for both in reversed(_padding(module)) for p in both]
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    return functional.pad(x.flatten(0, 1), last_first, mode).unflatten(0, x.shape[:2])


def _correlation(module: Any) -> Correlation:
    padding = tuple(p if _leaves_padding(module) else 0 for p, _ in _padding(module))
    return Correlation(module.weight.shape, module.stride, padding, module.dilation, module.groups)
