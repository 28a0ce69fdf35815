"""One layer's Fisher as a sum of Kronecker products."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from cl_fisher.fisher.structure.iterative import conjugate_gradients, largest_eigenvalue
from cl_fisher.fisher.structure.kronecker_sum import compressed, norm
from cl_fisher.fisher.structure.layout import Layout
from cl_fisher.fisher.structure.matrix import FisherMatrix, Parameters
from cl_fisher.fisher.structure.spectrum import MAX_ROWS, KroneckerSpectrum, Spectrum, damped, eigh, of_sum, wide


@dataclass(frozen=True, eq=False)
class Kronecker(FisherMatrix):
    """F = sum_t G_t (x) A_t over the matrix [O, K] of one layer's parameters: F V = sum_t G_t V A_t.

    One term, as estimated, has everything in closed form through the eigenvectors of G and A. Sums of more are exact
    in all products; systems are solved by conjugate gradients, to a residual of 1e-10; the log-determinant,
    eigenvalues and samples need a dense matrix, of at most `MAX_ROWS` rows.
    """

    kind: ClassVar[str] = "kronecker"
    layout: Layout
    outputs: Tensor
    """G of each term, [T, O, O]."""
    inputs: Tensor
    """A of each term, [T, K, K]."""
    rank: int | None = 1
    """How many terms `merged` keeps; all of them if None."""

    def mv(self, vector: Parameters) -> dict[str, Tensor]:
        """F v."""
        return self.layout.split(self._product(self._matrix(vector)))

    def quadratic(self, delta: Parameters) -> Tensor:
        """delta^T F delta."""
        v = self._matrix(delta)
        return self._product(v).flatten().dot(v.flatten())

    def _matrix(self, vector: Parameters) -> Tensor:
        return self.layout.join(vector).to(self.outputs.dtype)

    def _product(self, v: Tensor) -> Tensor:
        if len(self.outputs) == 1:
            return self.outputs[0] @ v @ self.inputs[0]
        return (self.outputs @ v @ self.inputs).sum(0)

    @cached_property
    def _spectrum(self) -> Spectrum:
        if len(self.outputs) > 1:
            return of_sum(self.outputs, self.inputs)
        g, u_outputs = eigh(self.outputs[0], self.outputs.dtype)
        a, u_inputs = eigh(self.inputs[0], self.inputs.dtype)
        return KroneckerSpectrum(u_outputs, u_inputs, torch.outer(g, a))

    def solve(self, vector: Parameters, damping: float) -> dict[str, Tensor]:
        """(F + damping I)^-1 v; for more than one term preconditioned with the best single one."""
        v = wide(self.layout.join(vector))
        if len(self.outputs) == 1:
            x = self._spectrum.apply(1 / damped(self._spectrum.values, damping), v)
        else:
            g, a = wide(self.outputs), wide(self.inputs)
            single = replace(self, outputs=g, inputs=a, rank=1)._single()._spectrum
            inverse = 1 / damped(single.values, damping)
            x = conjugate_gradients(
                lambda y: (g @ y @ a).sum(0) + damping * y, lambda y: single.apply(inverse, y), v
            )
        return self.layout.split(x.to(self.outputs))

    def diagonal(self) -> dict[str, Tensor]:
        """Products of the factors' diagonals."""
        g, a = (f.diagonal(dim1=1, dim2=2) for f in (self.outputs, self.inputs))
        return self.layout.split(g.T @ a)

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
        if len(self.outputs) == 1 or self.layout.rows * self.layout.columns <= MAX_ROWS:
            return float(self._spectrum.values.max())
        g, a = wide(self.outputs), wide(self.inputs)
        return largest_eigenvalue(lambda v: (g @ v @ a).sum(0), g.new_empty(self.layout.rows, self.layout.columns))

    def sample(self, n: int, damping: float, seed: int = 0) -> dict[str, Tensor]:
        """Normal draws times the root of the inverse."""
        values = self._spectrum.values
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(n, *values.shape, generator=generator, dtype=torch.float64).to(values)
        return self.layout.split(self._spectrum.apply(damped(values, damping).rsqrt(), noise).to(self.outputs))

    def to_dense(self) -> Tensor:
        """Kronecker products, rows and columns in the order of the parameters."""
        dense = torch.stack([torch.kron(g, a) for g, a in zip(self.outputs, self.inputs, strict=True)]).sum(0)
        order = self.layout.order().to(dense.device)
        return dense[order[:, None], order]

    def __add__(self, other: Self) -> Self:
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
        error = math.fsum(f.info.get("merge_error", 0.0) * f.norm() for f in (self, other) if "merge_error" in f.info)
        if len(kept[0]) < len(outputs):
            error += norm(torch.cat([outputs, -kept[0]]), torch.cat([inputs, kept[1]]))
        total = norm(outputs, inputs)
        told = {"merge_error": error / total} if error > 0 else {}
        return replace(self, outputs=kept[0], inputs=kept[1], info=dict(self.info) | told, standard_error=None)

    def _single(self) -> Self:
        g, a = compressed(self.outputs, self.inputs, 1)
        return replace(self, outputs=g, inputs=a)

    def __mul__(self, factor: float) -> Self:
        return replace(self, outputs=self.outputs * factor, standard_error=None)

    def grown(self, like: Parameters) -> Self:
        """Factors padded with zeros; the bias stays the last column."""
        layout, columns = self.layout.grown(like)
        rows = torch.arange(self.layout.rows)
        return replace(
            self,
            layout=layout,
            outputs=_padded(self.outputs, rows, layout.rows),
            inputs=_padded(self.inputs, columns, layout.columns),
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
        return self.layout.shapes()

    def tensors(self) -> dict[str, Tensor]:
        """The factors."""
        return {"outputs": self.outputs, "inputs": self.inputs}

    def form(self) -> dict[str, Any]:
        """The layout and the rank."""
        return {"layout": self.layout.form(), "rank": self.rank}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], info: Mapping[str, Any], form: Mapping[str, Any]) -> Self:
        """Undo `tensors` and `form`."""
        layout = Layout.from_form(form["layout"])
        return cls(layout, tensors["outputs"], tensors["inputs"], form["rank"], info=info)


def _padded(factors: Tensor, places: Tensor, size: int) -> Tensor:
    if size == factors.shape[-1]:
        return factors
    padded = factors.new_zeros(len(factors), size, size)
    padded[:, places[:, None], places] = factors
    return padded
