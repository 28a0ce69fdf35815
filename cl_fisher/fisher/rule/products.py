"""Products of two matrices per example, squared and summed: the diagonal of a layer that shares its weight."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

CACHE_BYTES = 2**20
"""Of products held at a time: squaring them is memory-bound, so they should stay in a core's own cache."""
PAIR_BYTES = 16 * 2**20
"""Of products of pairs held at a time: they only have to be large enough for one good matrix product."""

_SQUARING = 14  # what to square an entry and add it up costs, in floating-point operations of a matrix product
_PAIRING = 40  # what to make an entry of a product of pairs costs


def squared_products(left: Sequence[Tensor], right: Tensor) -> Tensor:
    """Sum over examples n and columns v of (L_vn R_n)^2, entry by entry.

    Args:
        left: for each column [N, O, S].
        right: [N, S, K].

    Returns:
        [O, K].
    """
    n_columns, (_, n_out, n_positions), n_in = len(left), left[0].shape, right.shape[2]
    n_pairs = n_positions * (n_positions + 1) // 2
    by_examples = n_columns * n_out * n_in * (2 * n_positions + _SQUARING)
    by_pairs = n_pairs * (2 * n_out * n_in + _PAIRING * (n_in + n_columns * n_out))
    return products_by_pairs(left, right) if by_pairs < by_examples else products_by_examples(left, right)


def products_by_examples(left: Sequence[Tensor], right: Tensor) -> Tensor:
    """Each product in turn, as many examples at once as the cache holds."""
    n_examples, n_out, n_in = len(right), left[0].shape[1], right.shape[2]
    size = min(n_examples, max(1, CACHE_BYTES // (n_out * n_in * right.element_size())))
    products, total = right.new_empty(size, n_out, n_in), right.new_zeros(size, n_out, n_in)
    for start in range(0, n_examples, size):
        some = right[start : start + size]
        product, sums = products[: len(some)], total[: len(some)]
        for column in left:
            torch.bmm(column[start : start + size], some, out=product)
            sums.addcmul_(product, product)
    return total.sum(0)


def products_by_pairs(left: Sequence[Tensor], right: Tensor) -> Tensor:
    """Sum over pairs of positions s <= t of (sum_v l_vs l_vt) (r_s r_t), twice where s < t: one matrix product.

    Does not grow with the number of columns. Its rounding errors are relative to the sum of the terms' sizes, so that
    where they cancel an entry could come out below zero.
    """
    n_positions, (n_out, n_in) = right.shape[1], (left[0].shape[1], right.shape[2])
    first, second = torch.triu_indices(n_positions, n_positions, device=right.device).unbind()
    twice = torch.where(first == second, 1.0, 2.0).to(right)
    size = max(1, PAIR_BYTES // (len(first) * (n_in + n_out) * right.element_size()))
    total = right.new_zeros(n_out, n_in)
    for start in range(0, len(right), size):
        part = slice(start, start + size)
        rights = _pairs(right[part].transpose(0, 1))
        lefts = _pairs(left[0][part].permute(2, 0, 1))
        for column in left[1:]:
            lefts += _pairs(column[part].permute(2, 0, 1))
        lefts *= twice[:, None, None]
        total.addmm_(lefts.flatten(0, 1).T, rights.flatten(0, 1))
    return total.clamp_(min=0)


def _pairs(rows: Tensor) -> Tensor:
    """Products of all pairs of rows s <= t of [S, n, K]: [S (S + 1) / 2, n, K]."""
    return torch.cat([rows[s] * rows[s:] for s in range(len(rows))])


def sum_of_squares(columns: Iterable[Tensor]) -> Tensor:
    """Sum over columns and examples of the squares of [N, ...]."""
    return torch.stack([column.square().sum(0) for column in columns]).sum(0)
