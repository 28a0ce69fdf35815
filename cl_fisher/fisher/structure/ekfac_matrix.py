"""One layer's Fisher as a diagonal in the eigenbasis of Kronecker factors."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from cl_fisher.fisher.structure.iterative import conjugate_gradients, largest_eigenvalue
from cl_fisher.fisher.structure.kronecker_sum import error_info
from cl_fisher.fisher.structure.matrix import FisherMatrix, Parameters, check_damping
from cl_fisher.fisher.structure.spectrum import (
    MAX_ROWS,
    KroneckerSpectrum,
    Spectrum,
    damped,
    eigh,
    kron,
    of_sum,
    sampled,
)
from cl_fisher.fisher.structure.weight_matrix import WeightMatrix
from cl_fisher.fisher.structure.wide import wide


@dataclass(frozen=True, eq=False)
class Ekfac(FisherMatrix):
    """F = sum_t U_t diag(D_t) U_t^T, U_t = P_t (x) Q_t orthogonal, over the matrix [O, K] of one layer's parameters.

    One term, as estimated and as merged, has everything in closed form. An exact sum (+) has more, and then is no
    better off than a sum of Kronecker products (`Kronecker`).
    """

    kind: ClassVar[str] = "ekfac"
    place: WeightMatrix
    outputs: Tensor
    """P of each term, [T, O, O], eigenvectors in the columns."""
    inputs: Tensor
    """Q of each term, [T, K, K]."""
    values: Tensor
    """D of each term, [T, O, K]."""

    def mv(self, vector: Parameters) -> dict[str, Tensor]:
        """F v."""
        return self.place.split(self._product(self.place.join(vector).to(self.values.dtype)))

    def quadratic(self, delta: Parameters) -> Tensor:
        """delta^T F delta: every term is positive, so nothing cancels."""
        v = self.place.join(delta).to(self.values.dtype)
        inside = self.outputs.mT @ v @ self.inputs
        return (self.values * inside).flatten().dot(inside.flatten())

    def _product(self, v: Tensor) -> Tensor:
        inside = self.outputs.mT @ v @ self.inputs
        return (self.outputs @ (self.values * inside) @ self.inputs.mT).sum(0)

    @cached_property
    def _spectrum(self) -> Spectrum:
        if len(self.values) > 1:
            shape = (self.place.rows, self.place.columns)
            return of_sum(len(self.values), shape, self._dense, self.values.dtype)
        return KroneckerSpectrum(*(wide(t[0]) for t in (self.outputs, self.inputs, self.values)))

    def _dense(self) -> Tensor:
        """In the order of the matrix [O, K]."""
        total = self.values.new_zeros(1)
        for p, q, d in zip(self.outputs, self.inputs, self.values, strict=True):
            basis = kron(p, q)
            total = total + (basis * d.flatten()) @ basis.T
        return total

    def solve(self, vector: Parameters, damping: float) -> dict[str, Tensor]:
        """(F + damping I)^-1 v; for more than one term preconditioned with the single one that they merge to."""
        check_damping(damping)
        v = wide(self.place.join(vector))
        near = self._single._spectrum
        inverse = 1 / damped(near.values, damping)
        x = near.apply(inverse, v)
        if len(self.values) > 1:
            whole = self._widened()
            x = conjugate_gradients(lambda y: whole._product(y) + damping * y, lambda y: near.apply(inverse, y), v)
        return self.place.split(x.to(self.values))

    @cached_property
    def _single(self) -> Self:
        return self if len(self.values) == 1 else self._compressed()

    def _widened(self) -> Self:
        return replace(self, outputs=wide(self.outputs), inputs=wide(self.inputs), values=wide(self.values))

    def diagonal(self) -> dict[str, Tensor]:
        """The values, spread by the squares of the eigenvectors."""
        return self.place.split((self.outputs.square() @ self.values @ self.inputs.square().mT).sum(0))

    def trace(self) -> float:
        """Sum of the values."""
        return float(wide(self.values).sum())

    def norm(self) -> float:
        """Root of the values' squares, and of the products between terms."""
        whole = self._widened()
        square = whole.values.square().sum()
        for t in range(1, len(self.values)):
            for s in range(t):
                square += 2 * (whole.values[s] * _turned(whole, t, whole.outputs[s], whole.inputs[s])).sum()
        return math.sqrt(square)

    def logdet(self, damping: float) -> float:
        """Sum of log(eigenvalue + damping)."""
        return float(damped(self._spectrum.values, damping).log().sum())

    def eigenvalues(self) -> Tensor:
        """The values, sorted."""
        return self._spectrum.values.flatten().sort(descending=True).values

    def largest_eigenvalue(self) -> float:
        """By Lanczos iterations for a sum of terms over many parameters."""
        if len(self.values) == 1 or self.place.rows * self.place.columns <= MAX_ROWS:
            return float(self._spectrum.values.max())
        whole = self._widened()
        return largest_eigenvalue(whole._product, whole.values[0])

    def sample(self, n: int, damping: float, seed: int = 0) -> dict[str, Tensor]:
        """Normal draws times the root of the inverse."""
        return self.place.split(sampled(self._spectrum, n, damping, seed).to(self.values))

    def to_dense(self) -> Tensor:
        """Rows and columns in the order of the parameters."""
        order = self.place.order().to(self.values.device)
        return self._dense()[order[:, None], order]

    def _plus(self, other: Self) -> Self:
        both = self._beside(other)
        return replace(both, info=dict(self.info) | error_info((self, other), 0.0, both.norm()))

    def merged(self, other: Self) -> Self:
        """One term: its basis is that of the sum's partial traces, its values are the sum's diagonal in this basis.

        That is positive semi-definite, keeps the trace, and no other values are better in this basis. `merge_error`
        adds up the errors of all merges so far: an upper bound after the first one.
        """
        both = self._beside(other)
        single, total = both._compressed(), both.norm()
        error = 0.0
        if len(both._alive().values) > 1:  # the diagonal in a basis is a projection
            error = math.sqrt(max(0.0, total**2 - single.norm() ** 2))
        return replace(single, info=dict(self.info) | error_info((self, other), error, total))

    def _beside(self, other: Self) -> Self:
        outputs = torch.cat([self.outputs, other.outputs.to(self.values)])
        inputs = torch.cat([self.inputs, other.inputs.to(self.values)])
        values = torch.cat([self.values, other.values.to(self.values)])
        return replace(self, outputs=outputs, inputs=inputs, values=values, standard_error=None)

    def _compressed(self) -> Self:
        alive = self._alive()
        if len(alive.values) == 1:
            return alive
        whole = alive._widened()
        p, q, d = whole.outputs, whole.inputs, whole.values
        _, p_new = eigh(((p * d.sum(2)[:, None]) @ p.mT).sum(0), self.values.dtype)
        _, q_new = eigh(((q * d.sum(1)[:, None]) @ q.mT).sum(0), self.values.dtype)
        values = torch.stack([_turned(whole, t, p_new, q_new) for t in range(len(d))]).sum(0)
        p_new, q_new, values = (t[None].to(self.values) for t in (p_new, q_new, values))
        return replace(self, outputs=p_new, inputs=q_new, values=values)

    def _alive(self) -> Self:
        """Without terms that are zero, if any other is left."""
        alive = self.values.flatten(1).any(1).nonzero().flatten()
        if len(alive) == 0:
            alive = alive.new_zeros(1)
        return replace(self, outputs=self.outputs[alive], inputs=self.inputs[alive], values=self.values[alive])

    def _times(self, factor: float) -> Self:
        return replace(self, values=self.values * factor, standard_error=None)

    def grown(self, like: Parameters) -> Self:
        """Zero values for new eigenvectors, which are unit vectors."""
        place, columns = self.place.grown(like)
        rows = torch.arange(self.place.rows)
        values = self.values.new_zeros(len(self.values), place.rows, place.columns)
        values[:, : self.place.rows, : self.place.columns] = self.values
        outputs, inputs = _extended(self.outputs, rows, place.rows), _extended(self.inputs, columns, place.columns)
        return replace(self, place=place, outputs=outputs, inputs=inputs, values=values, standard_error=None)

    def to(self, like: Parameters) -> Self:
        """All moved."""
        name = next(iter(self.shapes()))
        if name not in like:
            return self
        dtype, device = torch.promote_types(like[name].dtype, torch.float32), like[name].device
        outputs, inputs, values = (t.to(device, dtype) for t in (self.outputs, self.inputs, self.values))
        return replace(self, outputs=outputs, inputs=inputs, values=values)

    def shapes(self) -> dict[str, torch.Size]:
        """Of the weight and the bias."""
        return self.place.shapes()

    def tensors(self) -> dict[str, Tensor]:
        """The bases and the values."""
        return {"outputs": self.outputs, "inputs": self.inputs, "values": self.values}

    def form(self) -> dict[str, Any]:
        """Where the parameters are."""
        return {"place": self.place.form()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], info: Mapping[str, Any], form: Mapping[str, Any]) -> Self:
        """Undo `tensors` and `form`."""
        place = WeightMatrix.from_form(form["place"])
        return cls(place, tensors["outputs"], tensors["inputs"], tensors["values"], info=info)


def _turned(fisher: Ekfac, term: int, outputs: Tensor, inputs: Tensor) -> Tensor:
    """The diagonal of a term in another basis, [O, K]."""
    p, q = fisher.outputs[term].T @ outputs, fisher.inputs[term].T @ inputs
    return p.square().T @ fisher.values[term] @ q.square()


def _extended(bases: Tensor, places: Tensor, size: int) -> Tensor:
    """Orthogonal bases with unit vectors for the rows that are not among `places`."""
    if size == bases.shape[-1]:
        return bases
    new = torch.ones(size, dtype=torch.bool)
    new[places] = False
    extended = bases.new_zeros(len(bases), size, size)
    extended[:, places, : len(places)] = bases
    extended[:, new.nonzero().flatten(), torch.arange(len(places), size)] = 1
    return extended
