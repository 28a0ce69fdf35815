"""Linear algebra with a matrix that is only known by its products."""

from collections.abc import Callable

import torch
from torch import Tensor

from cl_fisher.error import InputError

Product = Callable[[Tensor], Tensor]

_ENOUGH, _ACCEPTED = 1e-13, 1e-10
_STEPS = 2000
_VECTORS = 200


def conjugate_gradients(product: Product, precondition: Product, right: Tensor) -> Tensor:
    """Solve M x = right for a positive definite M to a residual of 1e-10, relative to the right-hand side.

    Preconditioned (Hestenes & Stiefel 1952); stops earlier only where rounding lets it go no further.

    Raises:
        InputError: M is not positive definite, or too ill-conditioned.
    """
    x = torch.zeros_like(right)
    size = right.norm()
    if size == 0:
        return x
    residual, best, best_x = right.clone(), size, x
    z = precondition(residual)
    direction, rz = z, _dot(residual, z)
    for _ in range(_STEPS):
        along = product(direction)
        curvature = _dot(direction, along)
        if not curvature > 0:
            break
        x = x + (rz / curvature) * direction
        residual = residual - (rz / curvature) * along
        if residual.norm() < best:
            best, best_x = residual.norm(), x
        if best <= _ENOUGH * size:
            break
        z = precondition(residual)
        rz, before = _dot(residual, z), rz
        direction = z + (rz / before) * direction
    if not (right - product(best_x)).norm() <= _ACCEPTED * size:
        raise InputError(
            "the linear system is not positive definite or too ill-conditioned: a larger damping is wanted"
        )
    return best_x


def largest_eigenvalue(product: Product, like: Tensor) -> float:
    """The largest eigenvalue of a symmetric matrix over tensors of a shape, from below, by Lanczos (1950).

    With full reorthogonalisation, until an eigenvalue is within 1e-8 of it, relatively; the error itself is about the
    square of that.
    """
    start = torch.randn(like.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(like)
    basis = [start / start.norm()]
    diagonal: list[Tensor] = []
    beside: list[Tensor] = []
    value = 0.0
    for _ in range(min(_VECTORS, like.numel())):
        along = product(basis[-1])
        diagonal.append(_dot(along, basis[-1]))
        for _ in range(2):
            for b in basis:
                along = along - _dot(along, b) * b
        value, last = _top(diagonal, beside)
        beside.append(along.norm())
        if float(beside[-1]) * last <= 1e-8 * abs(value):
            break
        basis.append(along / beside[-1])
    return value


def _top(diagonal: list[Tensor], beside: list[Tensor]) -> tuple[float, float]:
    """The largest eigenvalue of a tridiagonal matrix, and how much of its vector is in the last row."""
    small = torch.diag(torch.stack(diagonal))
    if beside:
        small = small + torch.diag(torch.stack(beside), 1) + torch.diag(torch.stack(beside), -1)
    values, vectors = torch.linalg.eigh(small)
    return float(values[-1]), float(vectors[-1, -1].abs())


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum()
