"""The directions in weight space that matter most: F ~ V^T V with few rows in V."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from cl_fisher.bounds import Count, checked
from cl_fisher.error import InputError
from cl_fisher.fisher.structure.coordinates import Coordinates
from cl_fisher.fisher.structure.dense import moved
from cl_fisher.fisher.structure.matrix import FisherMatrix, Parameters, check_damping
from cl_fisher.fisher.structure.structure import Accumulator, Structure
from cl_fisher.fisher.structure.wide import wide

LIMIT = 4_000_000_000
"""Numbers of the sketch, 8 bytes each: a slip in the rank is refused before the machine runs out of memory."""


@dataclass(frozen=True, eq=False)
class LowRank(FisherMatrix):
    """V^T V; all operations are exact for it, and need no larger decomposition than that of V V^T, [R, R]."""

    kind: ClassVar[str] = "low_rank"
    factor: Tensor
    """V, [R, P]. Sums have as many rows as their terms together, merges at most `rank`."""
    coordinates: Coordinates
    rank: int

    @cached_property
    def _decomposition(self) -> tuple[Tensor, Tensor]:
        return decomposed(wide(self.factor))

    def mv(self, vector: Parameters) -> dict[str, Tensor]:
        """V^T (V v)."""
        return self.coordinates.named((self.factor @ self._flat(vector)) @ self.factor)

    def quadratic(self, delta: Parameters) -> Tensor:
        """|V delta|^2."""
        return (self.factor @ self._flat(delta)).square().sum()

    def solve(self, vector: Parameters, damping: float) -> dict[str, Tensor]:
        """(v - V^T (V V^T + damping I)^-1 V v) / damping: the identity of Woodbury."""
        _check_positive(damping)
        values, vectors = self._decomposition
        factor, v = wide(self.factor), wide(self.coordinates.flat(vector))
        within = vectors @ ((vectors.T @ (factor @ v)) / (values + damping))
        return self.coordinates.named(((v - within @ factor) / damping).to(self.factor))

    def diagonal(self) -> dict[str, Tensor]:
        """Sums of squares of the columns of V."""
        return self.coordinates.named(self.factor.square().sum(0))

    def trace(self) -> float:
        """Sum of squares of V."""
        return wide(self.factor).square().sum().item()

    def norm(self) -> float:
        """Of V V^T, which has the same eigenvalues."""
        factor = wide(self.factor)
        return (factor @ factor.T).norm().item()

    def logdet(self, damping: float) -> float:
        """All other eigenvalues are zero."""
        _check_positive(damping)
        values = self._decomposition[0]
        return (values + damping).log().sum().item() + (self.coordinates.size - len(values)) * math.log(damping)

    def eigenvalues(self) -> Tensor:
        """In float64, zeros included."""
        values, size = self._decomposition[0], self.coordinates.size
        return torch.cat([values[:size], values.new_zeros(max(0, size - len(values)))])

    def sample(self, n: int, damping: float, seed: int = 0) -> dict[str, Tensor]:
        """Normal draws z times the root of the inverse: z / sqrt(d) - V^T W f(L) W^T V z, with V V^T = W L W^T.

        f(l) = (1 / sqrt(d) - 1 / sqrt(l + d)) / l, without the difference and without dividing by l.
        """
        _check_positive(damping)
        values, vectors = self._decomposition
        generator = torch.Generator().manual_seed(seed)
        normal = torch.randn(n, self.coordinates.size, generator=generator, dtype=torch.float64).to(values.device)
        root, roots, factor = math.sqrt(damping), (values + damping).sqrt(), wide(self.factor)
        less = ((normal @ factor.T) @ vectors) / (root * roots * (root + roots))
        return self.coordinates.named((normal / root - (less @ vectors.T) @ factor).to(self.factor))

    def shapes(self) -> dict[str, torch.Size]:
        """Of all parameters."""
        return dict(self.coordinates.shapes)

    def to_dense(self) -> Tensor:
        """V^T V."""
        return self.factor.T @ self.factor

    def _plus(self, other: Self) -> Self:
        """Exact: V has the rows of both."""
        factor = torch.cat([self.factor, other._over(self.coordinates).factor])
        return self._with(factor, max(self.rank, other.rank))._having_lost(self._lost() + other._lost())

    def merged(self, other: Self) -> Self:
        """The sum with its largest eigenvalues only (its best approximation: Eckart and Young 1936)."""
        both = self + other
        values, vectors = both._decomposition
        factor = (vectors[:, : both.rank].T @ wide(both.factor)).to(self.factor)
        return self._with(factor, both.rank)._having_lost(both._lost() + values[both.rank :].norm().item())

    def bounded(self, linear: Parameters, constant: float) -> tuple[dict[str, Tensor], float]:
        """Only what is left in the range of F: along what a merge has cut off, a slope would push without end."""
        values, vectors = self._decomposition
        kept = values > 1e-12 * values.max()
        values, factor = values[kept], vectors[:, kept].T @ wide(self.factor)  # rows: eigenvectors times sqrt(value)
        along = factor @ wide(self.coordinates.flat(linear))
        least = float((along / values).square().sum())
        return self.coordinates.named(((along / values) @ factor).to(self.factor)), max(constant, least)

    def _times(self, factor: float) -> Self:
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
        if size * n_probes > LIMIT:
            raise InputError(
                f"structure=low_rank with rank={rank} and oversampling={oversampling} would keep {size:,} x "
                f"{n_probes:,} numbers, more than {LIMIT:,}: take a smaller rank"
            )
        normal = torch.randn(size, n_probes, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        self._probes = moved(torch.linalg.qr(normal).Q, parameters, self._coordinates)
        self._sketch = torch.zeros_like(wide(self._probes))
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
        factor = nystrom(self._sketch / n_examples, wide(self._probes), self._rank, self._probes.dtype)
        trace = (self._trace / n_examples).item()
        caught = {"trace_caught": factor.square().sum().item() / trace if trace > 0 else 1.0}
        kept = moved(factor, self._like, self._coordinates)
        return LowRank(kept, self._coordinates, self._rank, info=dict(info) | caught)


def _check_positive(damping: float) -> None:
    """Raise `InputError` unless F + damping I can be inverted."""
    check_damping(damping)
    if damping == 0:
        raise InputError("damping=0 is too small: a low-rank matrix is singular, so it must be positive")


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
    factor = (vectors * scale).T @ sketch.T
    return decomposed(factor)[1][:, :rank].T @ factor


def decomposed(factor: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues [R] of V V^T, descending, and its eigenvectors W in columns: V^T V has the same ones, else zeros.

    The rows of W^T V are orthogonal, so the first of them are the best V with fewer rows.
    """
    values, vectors = torch.linalg.eigh(factor @ factor.T)
    return values.flip(0).clamp(min=0), vectors.flip(1)


class LowRankStructure(Structure):
    """Keep the largest eigenvalues, found by a random sketch: P * (rank + oversampling) numbers while data comes in.

    `info["trace_caught"]` tells which part of the trace they are.

    Args:
        rank: eigenvalues kept.
        oversampling: further probes, which make these more accurate (Tropp et al. 2017 take rank + 1).
    """

    @checked
    def __init__(self, rank: Count = 20, oversampling: Count = 20) -> None:
        self.rank, self.oversampling = rank, oversampling

    def accumulator(self, model: nn.Module, parameters: Mapping[str, nn.Parameter]) -> LowRankAccumulator:  # noqa: ARG002
        """An empty sketch."""
        return LowRankAccumulator(parameters, self.rank, self.oversampling)
