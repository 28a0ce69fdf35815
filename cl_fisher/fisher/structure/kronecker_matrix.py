"""One layer's Fisher as a sum of Kronecker products."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from cl_fisher.fisher.structure.iterative import conjugate_gradients, largest_eigenvalue
from cl_fisher.fisher.structure.kronecker_sum import compressed, error_info, norm
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
class Kronecker(FisherMatrix):
    """F = sum_t G_t (x) A_t over the matrix [O, K] of one layer's parameters: F V = sum_t G_t V A_t.

    One term, as estimated, has everything in closed form through the eigenvectors of G and A. Sums of more are exact
    in all products; systems are solved by conjugate gradients, to a residual of 1e-10; the log-determinant,
    eigenvalues and samples need a dense matrix, of at most `MAX_ROWS` rows.
    """

    kind: ClassVar[str] = "kronecker"
    place: WeightMatrix
    outputs: Tensor
    """G of each term, [T, O, O]."""
    inputs: Tensor
    """A of each term, [T, K, K]."""
    rank: int | None = 1
    """How many terms `merged` keeps; all of them if None."""

    def mv(self, vector: Parameters) -> dict[str, Tensor]:
        """F v."""
        return self.place.split(self._product(self._matrix(vector)))

    def quadratic(self, delta: Parameters) -> Tensor:
        """delta^T F delta."""
        v = self._matrix(delta)
        return self._product(v).flatten().dot(v.flatten())

    def _matrix(self, vector: Parameters) -> Tensor:
        return self.place.join(vector).to(self.outputs.dtype)

    def _product(self, v: Tensor) -> Tensor:
        if len(self.outputs) == 1:
            return self.outputs[0] @ v @ self.inputs[0]
        return (self.outputs @ v @ self.inputs).sum(0)

    @cached_property
    def _spectrum(self) -> Spectrum:
        dtype = self.outputs.dtype
        if len(self.outputs) > 1:
            return of_sum(len(self.outputs), (self.place.rows, self.place.columns), self._dense, dtype)
        g, u_outputs = eigh(self.outputs[0], dtype)
        a, u_inputs = eigh(self.inputs[0], dtype)
        return KroneckerSpectrum(u_outputs, u_inputs, torch.outer(g, a))

    def _dense(self) -> Tensor:
        """In the order of the matrix [O, K]."""
        total = self.outputs.new_zeros(1)
        for g, a in zip(self.outputs, self.inputs, strict=True):
            total = total + kron(g, a)
        return total

    def solve(self, vector: Parameters, damping: float) -> dict[str, Tensor]:
        """(F + damping I)^-1 v; for more than one term preconditioned with the best single one."""
        check_damping(damping)
        v = wide(self.place.join(vector))
        near = self._single._spectrum
        inverse = 1 / damped(near.values, damping)
        x = near.apply(inverse, v)
        if len(self.outputs) > 1:
            g, a = wide(self.outputs), wide(self.inputs)
            x = conjugate_gradients(lambda y: (g @ y @ a).sum(0) + damping * y, lambda y: near.apply(inverse, y), v)
        return self.place.split(x.to(self.outputs))

    @cached_property
    def _single(self) -> Self:
        if len(self.outputs) == 1:
            return self
        g, a = compressed(self.outputs, self.inputs, 1)
        return replace(self, outputs=g, inputs=a)

    def diagonal(self) -> dict[str, Tensor]:
        """Products of the factors' diagonals."""
        g, a = (f.diagonal(dim1=1, dim2=2) for f in (self.outputs, self.inputs))
        return self.place.split(g.T @ a)

    def trace(self) -> float:
        """Products of the factors' traces."""
        g, a = (wide(f).diagonal(dim1=1, dim2=2).sum(1) for f in (self.outputs, self.inputs))
        return float(g.dot(a))

    def norm(self) -> float:
        """From inner products of the factors."""
        return norm(self.outputs, self.inputs)

    def logdet(self, damping: float) -> float:
        """Sum of log(eigenvalue + damping)."""
        return float(damped(self._spectrum.values, damping).log().sum())

    def eigenvalues(self) -> Tensor:
        """Products of the factors' eigenvalues."""
        return self._spectrum.values.flatten().sort(descending=True).values

    def largest_eigenvalue(self) -> float:
        """By Lanczos iterations for a sum of terms over many parameters."""
        if len(self.outputs) == 1 or self.place.rows * self.place.columns <= MAX_ROWS:
            return float(self._spectrum.values.max())
        g, a = wide(self.outputs), wide(self.inputs)
        return largest_eigenvalue(lambda v: (g @ v @ a).sum(0), g.new_empty(self.place.rows, self.place.columns))

    def sample(self, n: int, damping: float, seed: int = 0) -> dict[str, Tensor]:
        """Normal draws times the root of the inverse."""
        return self.place.split(sampled(self._spectrum, n, damping, seed).to(self.outputs))

    def to_dense(self) -> Tensor:
        """Kronecker products, rows and columns in the order of the parameters."""
        order = self.place.order().to(self.outputs.device)
        return self._dense()[order[:, None], order]

    def _plus(self, other: Self) -> Self:
        return self._sum(other, None)

    def merged(self, other: Self) -> Self:
        """At most `rank` terms, positive semi-definite (`kronecker_sum.compressed`).

        `merge_error` adds up the errors of all merges so far: an upper bound after the first one.
        """
        return self._sum(other, self.rank)

    def _sum(self, other: Self, rank: int | None) -> Self:
        outputs = torch.cat([self.outputs, other.outputs.to(self.outputs)])
        inputs = torch.cat([self.inputs, other.inputs.to(self.inputs)])
        kept = compressed(outputs, inputs, rank)
        difference = torch.cat([outputs, -kept[0]]), torch.cat([inputs, kept[1]])
        error = norm(*difference) if len(kept[0]) < len(outputs) else 0.0
        info = dict(self.info) | error_info((self, other), error, norm(outputs, inputs))
        return replace(self, outputs=kept[0], inputs=kept[1], info=info, standard_error=None)

    def _times(self, factor: float) -> Self:
        return replace(self, outputs=self.outputs * factor, standard_error=None)

    def grown(self, like: Parameters) -> Self:
        """Factors padded with zeros; the bias stays the last column."""
        place, columns = self.place.grown(like)
        rows = torch.arange(self.place.rows)
        return replace(
            self,
            place=place,
            outputs=_padded(self.outputs, rows, place.rows),
            inputs=_padded(self.inputs, columns, place.columns),
            standard_error=None,
        )

    def to(self, like: Parameters) -> Self:
        """Both factors moved."""
        name = next(iter(self.shapes()))
        if name not in like:
            return self
        dtype = torch.promote_types(like[name].dtype, torch.float32)
        return replace(
            self, outputs=self.outputs.to(like[name].device, dtype), inputs=self.inputs.to(like[name].device, dtype)
        )

    def shapes(self) -> dict[str, torch.Size]:
        """Of the weight and the bias."""
        return self.place.shapes()

    def tensors(self) -> dict[str, Tensor]:
        """The factors."""
        return {"outputs": self.outputs, "inputs": self.inputs}

    def form(self) -> dict[str, Any]:
        """Where the parameters are, and the rank."""
        return {"place": self.place.form(), "rank": self.rank}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], info: Mapping[str, Any], form: Mapping[str, Any]) -> Self:
        """Undo `tensors` and `form`."""
        place = WeightMatrix.from_form(form["place"])
        return cls(place, tensors["outputs"], tensors["inputs"], form["rank"], info=info)


def _padded(factors: Tensor, places: Tensor, size: int) -> Tensor:
    if size == factors.shape[-1]:
        return factors
    padded = factors.new_zeros(len(factors), size, size)
    padded[:, places[:, None], places] = factors
    return padded
