"""The directions in weight space that matter most: F ~ V^T V with few rows in V."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from cl_fisher.bounds import Count, checked
from cl_fisher.fisher.structure.coordinates import Coordinates
from cl_fisher.fisher.structure.dense import moved
from cl_fisher.fisher.structure.diagonal import _wide
from cl_fisher.fisher.structure.matrix import FisherMatrix, Parameters
from cl_fisher.fisher.structure.structure import Accumulator, Structure


@dataclass(frozen=True, eq=False)
class LowRank(FisherMatrix):
    """V^T V; all operations are exact for it, by the singular value decomposition of V, made when first needed."""

    kind: ClassVar[str] = "low_rank"
    factor: Tensor
    """V, [R, P]. Sums have as many rows as their terms together, merges at most `rank`."""
    coordinates: Coordinates
    rank: int

    @cached_property
    def _decomposition(self) -> tuple[Tensor, Tensor]:
        """The largest eigenvalues [K] of V^T V, descending, and eigenvectors [K, P], K = min(R, P), in float64."""
        _, values, vectors = torch.linalg.svd(_wide(self.factor), full_matrices=False)
        return values.square(), vectors

    def mv(self, vector: Parameters) -> dict[str, Tensor]:
        """V^T (V v)."""
        return self.coordinates.named((self.factor @ self._flat(vector)) @ self.factor)

    def quadratic(self, delta: Parameters) -> Tensor:
        """|V delta|^2."""
        return (self.factor @ self._flat(delta)).square().sum()

    def solve(self, vector: Parameters, damping: float) -> dict[str, Tensor]:
        """By the identity of Woodbury, which is plain in the eigenbasis."""
        values, vectors = self._decomposition
        v = _wide(self.coordinates.flat(vector))
        within = vectors @ v
        solved = (v - within @ vectors) / damping + (within / (values + damping)) @ vectors
        return self.coordinates.named(solved.to(self.factor))

    def diagonal(self) -> dict[str, Tensor]:
        """Sums of squares of the columns of V."""
        return self.coordinates.named(self.factor.square().sum(0))

    def trace(self) -> float:
        """Sum of squares of V."""
        return _wide(self.factor).square().sum().item()

    def norm(self) -> float:
        """Of V V^T, which has the same eigenvalues."""
        factor = _wide(self.factor)
        return (factor @ factor.T).norm().item()

    def logdet(self, damping: float) -> float:
        """All other eigenvalues are zero."""
        values = self._decomposition[0]
        return (values + damping).log().sum().item() + (self.coordinates.size - len(values)) * math.log(damping)

    def eigenvalues(self) -> Tensor:
        """In float64, zeros included."""
        values = self._decomposition[0]
        return torch.cat([values, values.new_zeros(self.coordinates.size - len(values))])

    def sample(self, n: int, damping: float, seed: int = 0) -> dict[str, Tensor]:
        """Normal draws over sqrt(damping), shortened along the eigenvectors."""
        values, vectors = self._decomposition
        generator = torch.Generator().manual_seed(seed)
        normal = torch.randn(n, self.coordinates.size, generator=generator, dtype=torch.float64).to(values.device)
        shorter = (values + damping).rsqrt() - damping**-0.5
        return self.coordinates.named(
            (normal * damping**-0.5 + ((normal @ vectors.T) * shorter) @ vectors).to(self.factor)
        )

    def shapes(self) -> dict[str, torch.Size]:
        """Of all parameters."""
        return dict(self.coordinates.shapes)

    def to_dense(self) -> Tensor:
        """V^T V."""
        return self.factor.T @ self.factor

    def __add__(self, other: Self) -> Self:
        """Exact: V has the rows of both."""
        factor = torch.cat([self.factor, other._over(self.coordinates).factor])
        return self._with(factor, max(self.rank, other.rank))._having_lost(self._lost() + other._lost())

    def merged(self, other: Self) -> Self:
        """The sum with its largest eigenvalues only (its best approximation: Eckart and Young 1936)."""
        both = self + other
        values, vectors = both._decomposition
        factor = (values[: both.rank].sqrt()[:, None] * vectors[: both.rank]).to(self.factor).contiguous()
        return self._with(factor, both.rank)._having_lost(both._lost() + values[both.rank :].norm().item())

    def __mul__(self, factor: float) -> Self:
        """By a factor that is not negative."""
        return self._with(self.factor * math.sqrt(factor), self.rank)

    def grown(self, like: Parameters) -> Self:
        """Zeros in V for new weights, where `like` has them."""
        return self._over(Coordinates.of(like))

    def to(self, like: Parameters) -> Self:
        """V moved; as precise as the most precise parameter."""
        return self._with(moved(self.factor, like, self.coordinates), self.rank)

    def tensors(self) -> dict[str, Tensor]:
        """V."""
        return {"factor": self.factor}

    def form(self) -> dict[str, Any]:
        """The parameters' shapes and the rank."""
        return {"shapes": self.coordinates.form(), "rank": self.rank}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], info: Mapping[str, Any], form: Mapping[str, Any]) -> Self:
        """Undo `tensors` and `form`."""
        return cls(tensors["factor"], Coordinates.from_form(form["shapes"]), form["rank"], info=info)

    def _flat(self, vector: Parameters) -> Tensor:
        return self.coordinates.flat(vector).to(self.factor)

    def _with(self, factor: Tensor, rank: int) -> Self:
        return type(self)(factor, self.coordinates, rank, info=self.info)

    def _over(self, coordinates: Coordinates) -> Self:
        if list(coordinates.shapes.items()) == list(self.coordinates.shapes.items()):
            return self
        larger = self.factor.new_zeros(len(self.factor), coordinates.size)
        larger[:, self.coordinates.places(coordinates).to(larger.device)] = self.factor
        return type(self)(larger, coordinates, self.rank, info=self.info)

    def _lost(self) -> float:
        """Frobenius norm of what merges have cut off, or more: undoes `_having_lost`."""
        error = float(self.info.get("merge_error", 0.0))
        return error / math.sqrt(1 - error**2) * self.norm()

    def _having_lost(self, lost: float) -> Self:
        """With the relative error in the info.

        What is cut off is positive semi-definite, so |exact|^2 >= |kept|^2 + |cut off|^2, and equal for one merge.
        """
        info = {key: value for key, value in self.info.items() if key != "merge_error"}
        if lost > 0:
            info["merge_error"] = lost / math.hypot(lost, self.norm())
        return type(self)(self.factor, self.coordinates, self.rank, info=info)


class LowRankAccumulator(Accumulator):
    """Sums F Omega for a fixed random Omega, which is linear in the examples, and the trace."""

    joint: ClassVar[bool] = True

    def __init__(self, parameters: Mapping[str, Tensor], rank: int, oversampling: int) -> None:
        self._like = dict(parameters)
        self._coordinates = Coordinates.of(parameters)
        size = self._coordinates.size
        n_probes = min(rank + oversampling, size)
        normal = torch.randn(size, n_probes, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        self._probes = moved(torch.linalg.qr(normal).Q, parameters, self._coordinates)
        self._sketch = torch.zeros_like(_wide(self._probes))
        self._trace = self._sketch.new_zeros(())
        self._rank = min(rank, size)

    def add_gradients(self, gradients: Mapping[str, Tensor]) -> None:
        """M^T (M Omega), with per-example gradients in the rows of M."""
        rows = self._coordinates.flat(gradients, n_leading=2).detach().flatten(0, 1)
        self._sketch += (rows.T @ (rows @ self._probes)).to(self._sketch.device)
        self._trace += rows.square().sum().to(self._trace.device)

    def sums(self) -> list[Tensor]:
        """The sketch [P, L] and the trace."""
        return [self._sketch, self._trace]

    def finish(self, n_examples: float, info: Mapping[str, Any]) -> LowRank:
        """The largest eigenvalues of the approximation that the sketch gives."""
        factor = nystrom(self._sketch / n_examples, _wide(self._probes), self._rank, self._probes.dtype)
        trace = (self._trace / n_examples).item()
        caught = {"trace_caught": factor.square().sum().item() / trace if trace > 0 else 1.0}
        kept = moved(factor, self._like, self._coordinates)
        return LowRank(kept, self._coordinates, self._rank, info=dict(info) | caught)


def nystrom(sketch: Tensor, probes: Tensor, rank: int, dtype: torch.dtype) -> Tensor:
    """V [rank, P] with V^T V ~ F, from Y = F Omega: the largest eigenvalues of Y (Omega^T Y)^-1 Y^T.

    Tropp et al. 2017 ("Fixed-rank approximation of a positive-semidefinite matrix from streaming data", alg. 3).
    Never more than F, and F itself if its rank is `rank` or less.

    Args:
        sketch: Y [P, L], in float64.
        probes: Omega [P, L], orthonormal, in float64.
        rank: at most L.
        dtype: in which the terms of Y were computed: what is smaller than its rounding is left out.
    """
    core = probes.T @ sketch
    values, vectors = torch.linalg.eigh((core + core.T) / 2)
    noise = torch.finfo(dtype).eps * len(values) * float(values[-1].clamp(min=0))
    scale = torch.where(values > noise, values.clamp(min=torch.finfo(values.dtype).tiny).rsqrt(), 0.0)
    _, roots, directions = torch.linalg.svd((sketch @ (vectors * scale)).T, full_matrices=False)
    return roots[:rank, None] * directions[:rank]


class LowRankStructure(Structure):
    """Keep the largest eigenvalues, found by a random sketch: P * (rank + oversampling) numbers while data comes in.

    `info["trace_caught"]` tells which part of the trace they are.

    Args:
        rank: eigenvalues kept.
        oversampling: further probes, which make these more accurate (Tropp et al. 2017 take rank + 1).
    """

    takes_groups = True

    @checked
    def __init__(self, rank: Count = 20, oversampling: Count = 20) -> None:
        self.rank, self.oversampling = rank, oversampling

    def accumulator(self, model: nn.Module, parameters: Mapping[str, nn.Parameter]) -> LowRankAccumulator:  # noqa: ARG002
        """An empty sketch."""
        return LowRankAccumulator(parameters, self.rank, self.oversampling)
