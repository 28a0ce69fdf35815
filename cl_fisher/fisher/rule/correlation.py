"""Weight gradients of convolutions, one for every example and column."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import grad

RESULT_BYTES = 2 * 2**20
"""Of weight gradients held at a time: squaring them is memory-bound, so they should stay near the cache."""
_INPUT_BYTES = 4 * 2**20  # of gradients put next to each other at a time

_WEIGHT_GRADIENT: dict[int, Callable[..., Tensor]] = {
    1: grad.conv1d_weight,
    2: grad.conv2d_weight,
    3: grad.conv3d_weight,
}


@dataclass(frozen=True)
class Correlation:
    """W[b, a, k] = sum over images t and positions s of g[t, b, s] * x[t, a, s * stride + k * dilation - padding].

    That is the weight gradient of a convolution of x with the gradient g at its output, and of a transposed
    convolution of g with the gradient x. Both are [N, images, channels, positions...], with the channels in groups.
    """

    shape: torch.Size
    """Of the weight: [channels of g, channels of x in a group, *kernel]."""
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    def summed(self, x: Tensor, g: Tensor) -> Tensor:
        """Over examples: [*shape]."""
        return self._by_convolution(x.flatten(0, 1), g.flatten(0, 1), self.shape, self.groups)

    def each(self, x: Tensor, g: Tensor) -> Tensor:
        """One for every example, [N, *shape], as many at once as the cache holds."""
        size = self._affordable(x, g)
        parts = zip(x.split(size), g.split(size), strict=True)
        return torch.cat([self._products([some_x], [some_g])[:, 0] for some_x, some_g in parts])

    def squares(self, x: Sequence[Tensor], g: Sequence[Tensor]) -> Tensor:
        """The sum over examples and columns of their squares, [*shape]; one of x and g is the same for all columns."""
        affordable, n_columns = self._affordable(x[0], g[0]), max(len(x), len(g))
        total = x[0].new_zeros(self.shape)
        for start in range(0, n_columns, affordable):
            which = slice(start, start + affordable)
            some_x, some_g = (t if len(t) == 1 else t[which] for t in (x, g))
            total += self._some_squares(some_x, some_g, max(1, affordable // n_columns))
        return total

    def _affordable(self, x: Tensor, g: Tensor) -> int:
        """How many examples times columns to do at once."""
        most_inputs = max(x[0].numel(), g[0].numel())
        bytes_ = x.element_size()
        return max(1, min(RESULT_BYTES // (self.shape.numel() * bytes_), _INPUT_BYTES // (most_inputs * bytes_)))

    def _some_squares(self, x: Sequence[Tensor], g: Sequence[Tensor], size: int) -> Tensor:
        """So many examples at a time, added up where they are and over examples at the end only: one pass over each."""
        sums: Tensor | None = None
        for n in range(0, len(x[0]), size):
            w = self._products([t[n : n + size] for t in x], [t[n : n + size] for t in g])
            if sums is None:
                sums = w.square_()
            else:
                sums[: len(w)].addcmul_(w, w)
        assert sums is not None
        return sums.sum((0, 1))

    def _products(self, x: Sequence[Tensor], g: Sequence[Tensor]) -> Tensor:
        """[N, columns, *shape] by one convolution: its groups are examples, its channels are those of all columns."""
        groups, n_out, n_in = len(x[0]) * self.groups, self.shape[0] // self.groups, self.shape[1]
        shape = torch.Size((groups * len(g) * n_out, len(x) * n_in, *self.shape[2:]))
        w = self._by_convolution(self._side_by_side(x), self._side_by_side(g), shape, groups)
        w = w.view(-1, self.groups, len(g), n_out, len(x), n_in, *self.shape[2:])
        return w.movedim((2, 4), (1, 2)).flatten(3, 4).flatten(1, 2)

    def _side_by_side(self, columns: Sequence[Tensor]) -> Tensor:
        """All examples' groups in a row, and in each group all columns' channels: [images, -1, positions...]."""
        first = columns[0]
        if len(columns) > 1:
            first = torch.cat([c.unflatten(2, (self.groups, -1)) for c in columns], 3)
            first = first.flatten(2, 3)
        return first.movedim(1, 0).flatten(1, 2)

    def _by_convolution(self, x: Tensor, g: Tensor, shape: torch.Size, groups: int) -> Tensor:
        by_dimension = _WEIGHT_GRADIENT[len(shape) - 2]
        return by_dimension(x, shape, g, self.stride, self.padding, self.dilation, groups)
