"""Sums of Kronecker products: their norm, and approximations by fewer products.

A sum M = sum_t G_t (x) A_t, rearranged, is the matrix sum_t vec(G_t) vec(A_t)^T (Van Loan & Pitsianis 1993): its
Frobenius norm is that of M, and its best approximation of rank 1 is the best Kronecker product. Both need only the
triangular factors of the stacked G and of the stacked A, so a T x T problem.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from cl_fisher.fisher.structure.matrix import FisherMatrix
from cl_fisher.fisher.structure.wide import wide

Terms = tuple[Tensor, Tensor]
"""G [T, O, O] and A [T, K, K]."""


def norm(outputs: Tensor, inputs: Tensor) -> float:
    """Frobenius norm of the sum; nothing cancels, so that it is good for differences too."""
    r_outputs, r_inputs = _triangles(outputs, inputs)
    return float((r_outputs @ r_inputs.T).norm())


def compressed(outputs: Tensor, inputs: Tensor, rank: int | None) -> Terms:
    """A sum of at most `rank` products, positive semi-definite if the terms are; the same if None.

    One product: the best there is. Two or more: the two terms that lose least become their best product, until few
    enough are left. The best sum of two or more products in Frobenius norm is not used: it is a difference, and as the
    terms' null spaces differ (each task has its own black pixels), it has negative eigenvalues, as a penalty would
    push weights away.
    """
    if rank == 1 and len(outputs) > 1:
        return _product(outputs, inputs)
    while rank is not None and len(outputs) > rank:
        first, second = _closest(outputs, inputs)
        pair = [first, second]
        g, a = _product(outputs[pair], inputs[pair])
        rest = [t for t in range(len(outputs)) if t not in pair]
        outputs, inputs = torch.cat([outputs[rest], g]), torch.cat([inputs[rest], a])
    return outputs, inputs


def error_info(parts: Sequence[FisherMatrix], error: float, total: float) -> dict[str, float]:
    """`merge_error` of a sum of matrices, relative to its norm: its own error and those that its parts came with."""
    error += math.fsum(part.info["merge_error"] * part.norm() for part in parts if "merge_error" in part.info)
    return {"merge_error": error / total} if error > 0 else {}


def _product(outputs: Tensor, inputs: Tensor) -> Terms:
    """The best single product, scaled so that its A is a weighted mean of the terms' A.

    Its factors are combinations of the terms' factors. With terms that are positive semi-definite the inner products
    between them are not negative, so neither are the weights (Perron-Frobenius); cutting off negative ones removes
    rounding, and mixed signs that can arise only if the largest singular value is a multiple one.
    """
    r_outputs, r_inputs = _triangles(outputs, inputs)
    left, values, right = torch.linalg.svd(r_outputs @ r_inputs.T)
    if values[0] == 0:
        return outputs[:1], inputs[:1]
    a, b = r_inputs.T @ right[0], r_outputs.T @ left[:, 0]
    sign = 1 if a.sum() > 0 else -1
    a, b = (sign * a).clamp(min=0), (sign * b).clamp(min=0)
    b = b / b.sum()
    g_side, a_side = r_outputs @ a, r_inputs @ b
    scale = (r_outputs.T @ g_side).dot(r_inputs.T @ a_side) / (g_side.square().sum() * a_side.square().sum())
    return _combined(outputs, scale * a), _combined(inputs, b)


def _combined(factors: Tensor, weights: Tensor) -> Tensor:
    return torch.tensordot(weights.to(factors), factors, 1)[None]


def _closest(outputs: Tensor, inputs: Tensor) -> tuple[int, int]:
    """The two terms whose best product has the smallest error: the second singular value of the two."""
    r_outputs, r_inputs = _triangles(outputs, inputs)
    pairs = list(itertools.combinations(range(len(outputs)), 2))
    cores = torch.stack([r_outputs[:, list(pair)] @ r_inputs[:, list(pair)].T for pair in pairs])
    values = torch.linalg.svdvals(cores)
    errors = values[:, 1] if values.shape[1] > 1 else values.new_zeros(len(pairs))
    return pairs[int(errors.argmin())]


def _triangles(outputs: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """R of the QR decompositions of [O^2, T] and [K^2, T], in float64."""
    r_outputs, r_inputs = (torch.linalg.qr(wide(f).flatten(1).T, mode="r").R for f in (outputs, inputs))
    return r_outputs, r_inputs
