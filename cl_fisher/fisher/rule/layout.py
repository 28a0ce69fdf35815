"""Where the examples are in what a layer sees: not always in the first dimension."""

from collections.abc import Callable

from torch import Tensor

Layout = Callable[[Tensor, int], Tensor]
"""(tensor, number of examples) -> the same values, examples first; a view."""


def examples_first(tensor: Tensor, n: int) -> Tensor:  # noqa: ARG001
    """[N, ...]."""
    return tensor


def examples_second(tensor: Tensor, n: int) -> Tensor:  # noqa: ARG001
    """[positions, N, ...], as in sequences with time first."""
    return tensor.movedim(1, 0)


def rows_by_example(tensor: Tensor, n: int) -> Tensor:
    """[N * positions, ...], the rows of an example next to each other."""
    return tensor.unflatten(0, (n, -1))


def rows_by_position(tensor: Tensor, n: int) -> Tensor:
    """[positions * N, ...], the rows of a position next to each other, as nn.MultiheadAttention flattens them."""
    return tensor.unflatten(0, (-1, n)).movedim(1, 0)


def possible(tensor: Tensor, n: int) -> list[Layout]:
    """The layouts that a tensor's shape allows, the likeliest first; which one is right only gradients can tell."""
    found: list[Layout] = []
    if tensor.dim() >= 1 and tensor.shape[0] == n:
        found.append(examples_first)
    if tensor.dim() >= 3 and tensor.shape[1] == n:
        found.append(examples_second)
    if tensor.dim() >= 2 and tensor.shape[0] > n and tensor.shape[0] % n == 0:
        found += [rows_by_example, rows_by_position]
    return found
