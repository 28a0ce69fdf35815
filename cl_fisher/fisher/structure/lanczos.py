"""What can be found out about a symmetric positive semi-definite matrix from its products with vectors alone."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from cl_fisher.error import InputError

Product = Callable[[Tensor], Tensor]
"""Vector [P] -> matrix times vector [P]."""


class Lanczos:
    """An orthonormal Krylov basis that grows by one vector a step, and the tridiagonal matrix T = Q^T A Q.

    Every new vector is made orthogonal to all others, twice (Parlett 1998, ch. 13): memory is one vector a step.
    """

    def __init__(self, product: Product, start: Tensor) -> None:
        self._product = product
        self._basis = torch.empty(8, len(start), dtype=start.dtype, device=start.device)
        self._basis[0] = start / start.norm()
        self._diagonal: list[float] = []
        self._beside: list[float] = []

    @property
    def n(self) -> int:
        """Steps taken."""
        return len(self._diagonal)

    @property
    def basis(self) -> Tensor:
        """[n, P], orthonormal rows."""
        return self._basis[: self.n]

    @property
    def remainder(self) -> float:
        """How far A Q is from Q T: the norm of what the next vector was made of; 0.0 if the space is exhausted."""
        return self._beside[-1]

    def step(self) -> bool:
        """One product more; False if there is nothing new, and T therefore exact for the start."""
        k = self.n
        if k + 1 >= len(self._basis):
            self._basis = torch.cat([self._basis, torch.empty_like(self._basis)])
        new = self._product(self._basis[k])
        size = float(new.norm())
        self._diagonal.append(float(new.dot(self._basis[k])))
        for _ in range(2):
            new = new - self.basis.T @ (self.basis @ new)
        left = float(new.norm())
        ended = self.n == len(new) or left <= 10 * torch.finfo(new.dtype).eps * max(size, self._diagonal[0])
        self._beside.append(0.0 if ended else left)
        if not ended:
            self._basis[k + 1] = new / left
        return not ended

    def ritz(self) -> tuple[Tensor, Tensor]:
        """Eigenvalues of T, ascending [n], not below 0, and its eigenvectors [n, n]; float64, on the CPU."""
        off = torch.tensor(self._beside[:-1], dtype=torch.float64)
        t = torch.diag(torch.tensor(self._diagonal, dtype=torch.float64)) + torch.diag(off, 1) + torch.diag(off, -1)
        values, vectors = torch.linalg.eigh(t)
        return values.clamp_(min=0.0), vectors


def largest(product: Product, start: Tensor, tolerance: float) -> float:
    """The largest eigenvalue, to a relative `tolerance` (the residual of its Ritz vector)."""
    krylov = Lanczos(product, start)
    while True:
        more = krylov.step()
        values, vectors = krylov.ritz()
        if not more or krylov.remainder * abs(float(vectors[-1, -1])) <= tolerance * float(values[-1]):
            return float(values[-1])


def function_times(
    product: Product, vector: Tensor, function: Callable[[Tensor], Tensor], tolerance: float, most: int = 500
) -> Tensor:
    """f(A) v, until two steps change it by less than `tolerance` of its norm.

    Raises:
        InputError: not after `most` steps.
    """
    krylov, size = Lanczos(product, vector), float(vector.norm())
    before = torch.zeros(0, dtype=torch.float64)
    for _ in range(most):
        more = krylov.step()
        if more and krylov.n % 2:
            continue
        values, vectors = krylov.ritz()
        now = size * (vectors @ (function(values) * vectors[0]))
        change = now.clone()
        change[: len(before)] -= before
        if not more or float(change.norm()) <= tolerance * float(now.norm()):
            return krylov.basis.T @ now.to(vector)
        before = now
    raise InputError(f"no end after {most} products with the Fisher: take a larger damping")


def trace_of(
    product: Product,
    size: Tensor,
    function: Callable[[Tensor], Tensor],
    tolerance: float,
    generator: torch.Generator,
    steps: int = 40,
) -> float:
    """The trace of f(A), with f(0) = 0, to a relative standard error of `tolerance`.

    What the leading eigenvectors share in is taken exactly, the rest by Gauss quadrature from random signs orthogonal
    to them (stochastic Lanczos quadrature, Ubaru et al. 2017; deflated as in Hutch++, Meyer et al. 2021).

    Args:
        product: A v.
        size: a vector [P] of the right type and place.
        function: f, entry by entry.
        tolerance: what the standard error may be, as a share of the trace.
        generator: of the random vectors, on the CPU.
        steps: products spent on the leading eigenvectors.
    """
    leading, exact = _leading(Lanczos(product, _signs(size, generator)), steps)
    share = float(function(exact).sum())
    drawn: list[float] = []
    while True:
        z = _signs(size, generator)
        z = z - leading.T @ (leading @ z)
        drawn.append(_quadrature(product, z, function, tolerance / 10))
        if len(drawn) >= 8:
            mean = math.fsum(drawn) / len(drawn)
            variance = math.fsum((x - mean) ** 2 for x in drawn) / (len(drawn) - 1)
            if math.sqrt(variance / len(drawn)) <= tolerance * (share + mean):
                return share + mean


def _leading(krylov: Lanczos, steps: int) -> tuple[Tensor, Tensor]:
    """Rows of converged Ritz vectors, and their values: an error of 1e-3 in a vector is one of 1e-6 in f."""
    while krylov.step() and krylov.n < steps:
        pass
    values, vectors = krylov.ritz()
    good = krylov.remainder * vectors[-1].abs() <= 1e-3 * values
    return vectors[:, good].T.to(krylov.basis) @ krylov.basis, values[good]


def _quadrature(product: Product, z: Tensor, function: Callable[[Tensor], Tensor], tolerance: float) -> float:
    """z^T f(A) z, until two steps change it by less than `tolerance` of itself."""
    krylov, square, before = Lanczos(product, z), float(z.dot(z)), math.inf
    while True:
        more = krylov.step()
        if more and krylov.n % 2:
            continue
        values, vectors = krylov.ritz()
        now = square * float((vectors[0].square() * function(values)).sum())
        if not more or abs(now - before) <= tolerance * now:
            return now
        before = now


def _signs(like: Tensor, generator: torch.Generator) -> Tensor:
    return (1.0 - 2.0 * torch.randint(2, like.shape, generator=generator)).to(like)


def conjugate_gradients(product: Product, vector: Tensor, tolerance: float, most: int = 2000) -> Tensor:
    """Solution x with ||A x - v|| <= tolerance ||v|| (Hestenes and Stiefel 1952).

    Raises:
        InputError: not after `most` steps, or v is outside the range of a singular A.
    """
    x, residual = torch.zeros_like(vector), vector.clone()
    direction, square = residual.clone(), float(vector.dot(vector))
    goal = tolerance**2 * square
    for _ in range(most):
        if square <= goal:
            return x
        image = product(direction)
        curvature = float(direction.dot(image))
        if curvature <= torch.finfo(vector.dtype).eps * float(direction.norm() * image.norm()):
            break  # a direction in which A is zero, or as good as zero
        x.add_(direction, alpha=square / curvature)
        residual.sub_(image, alpha=square / curvature)
        before, square = square, float(residual.dot(residual))
        direction.mul_(square / before).add_(residual)
    if square <= goal:
        return x
    raise InputError("the system with the Fisher was not solved by conjugate gradients: take a larger damping")
