"""Weight gradients of convolutions, one for every example and column."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import grad

from cl_fisher.fisher.rule.products import CACHE_BYTES

_WEIGHT_GRADIENT: dict[int, Callable[..., Tensor]] = {1: grad.conv1d_weight, 2: grad.conv2d_weight, 3: grad.conv3d_weight}


@dataclass(frozen=True)
class Correlation:
    """W[b, a, k] = sum over positions s of gradient[b, s] * data[a, s * stride + k * dilation - padding], in groups.

    It is the weight gradient of a convolution with these inputs, and of a transposed one with the two exchanged.
    """

    shape: torch.Size
    """Of the weight: [channels of gradient, channels of data in a group, *kernel]."""
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    def summed(self, data: Tensor, gradient: Tensor) -> Tensor:
        """Over examples: [*shape]."""
        return self._correlated(data, gradient, self.shape, 1)

    def each(self, data: Tensor, gradient: Tensor) -> Tensor:
        """One for every example, [N, *shape], in parts that the cache holds."""
        size = max(1, CACHE_BYTES // (self.shape.numel() * data.element_size()))
        parts = zip(data.split(size), gradient.split(size), strict=True)
        return torch.cat([self._products([d], [g])[:, 0] for d, g in parts])

    def squares(self, data: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
        """Of all examples and columns, summed: [*shape]. Either there is one tensor of data, or one gradient."""
        affordable = max(1, CACHE_BYTES // (self.shape.numel() * data[0].element_size()))
        n_columns, n_examples = max(len(data), len(gradients)), len(data[0])
        columns = min(n_columns, affordable)
        size = min(n_examples, max(1, affordable // columns))
        total = data[0].new_zeros(self.shape)
        for column in range(0, n_columns, columns):
            some_data = data[column : column + columns] if len(data) > 1 else data
            some_gradients = gradients[column : column + columns] if len(gradients) > 1 else gradients
            sums: Tensor | None = None
            for n in range(0, n_examples, size):
                w = self._products([d[n : n + size] for d in some_data], [g[n : n + size] for g in some_gradients])
                if sums is None:
                    sums = w.square_()
                else:
                    sums[: len(w)].addcmul_(w, w)
            assert sums is not None
            total += sums.sum((0, 1))
        return total

    def _products(self, data: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
        """[N, columns, *shape] by one convolution: its groups are examples, its channels are those of all columns."""
        n, n_out, n_in = len(data[0]), self.shape[0] // self.groups, self.shape[1]
        shape = torch.Size((n * self.groups * len(gradients) * n_out, len(data) * n_in, *self.shape[2:]))
        w = self._correlated(self._side_by_side(data), self._side_by_side(gradients), shape, n)
        w = w.view(n, self.groups, len(gradients), n_out, len(data), n_in, *self.shape[2:])
        w = w.transpose(1, 2).movedim(4, 2)  # [N, gradients, data, groups, n_out, n_in, *kernel]
        return w.flatten(3, 4).flatten(1, 2)

    def _side_by_side(self, columns: Sequence[Tensor]) -> Tensor:
        """The columns' channels within each group, and all examples' groups, next to each other: [1, ..., *positions]."""
        if len(columns) == 1:
            return columns[0].flatten(0, 1)[None]
        grouped = [c.unflatten(1, (self.groups, -1)) for c in columns]
        return torch.cat(grouped, 2).flatten(0, 2)[None]

    def _correlated(self, data: Tensor, gradient: Tensor, shape: torch.Size, n_examples: int) -> Tensor:
        by_dimension = _WEIGHT_GRADIENT[len(shape) - 2]
        groups = n_examples * self.groups
        return by_dimension(data, shape, gradient, self.stride, self.padding, self.dilation, groups)
