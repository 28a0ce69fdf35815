"""One number per weight: E[g^2]."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from cl_fisher.fisher.rule.rule import LayerUse
from cl_fisher.fisher.structure.matrix import FisherMatrix, Parameters, entry
from cl_fisher.fisher.structure.spectrum import damped
from cl_fisher.fisher.structure.structure import Accumulator, Structure
from cl_fisher.fisher.structure.wide import wide


def _padded(old: Tensor | None, like: Tensor) -> Tensor:
    if old is not None and old.shape == like.shape:
        return old
    new = like.new_zeros(like.shape) if old is None else old.new_zeros(like.shape)
    if old is not None:
        new[tuple(slice(n) for n in old.shape)] = old
    return new


@dataclass(frozen=True, eq=False)
class Diagonal(FisherMatrix):
    """A diagonal Fisher; all operations are exact for the diagonal matrix."""

    kind: ClassVar[str] = "diagonal"
    entries: Mapping[str, Tensor]

    def mv(self, vector: Parameters) -> dict[str, Tensor]:
        """F v."""
        return {name: f * entry(vector, name, f.shape) for name, f in self.entries.items()}

    def quadratic(self, delta: Parameters) -> Tensor:
        """delta^T F delta, in the entries' own type: every term is positive, so nothing cancels."""
        parts = []
        for name, f in self.entries.items():
            d = entry(delta, name, f.shape).to(f.dtype)
            parts.append((f * d).flatten().dot(d.flatten()))
        return torch.stack(parts).sum()

    def solve(self, vector: Parameters, damping: float) -> dict[str, Tensor]:
        """V / (F + damping)."""
        return {name: entry(vector, name, f.shape) / damped(f, damping) for name, f in self.entries.items()}

    def diagonal(self) -> dict[str, Tensor]:
        """The entries."""
        return dict(self.entries)

    def trace(self) -> float:
        """Sum of the entries."""
        return math.fsum(wide(f).sum().item() for f in self.entries.values())

    def norm(self) -> float:
        """Root of the sum of squares."""
        return math.sqrt(math.fsum(wide(f).square().sum().item() for f in self.entries.values()))

    def logdet(self, damping: float) -> float:
        """Sum of log(entry + damping)."""
        return math.fsum(damped(wide(f), damping).log().sum().item() for f in self.entries.values())

    def eigenvalues(self) -> Tensor:
        """The entries, sorted."""
        return torch.cat([f.flatten() for f in self.entries.values()]).sort(descending=True).values

    def sample(self, n: int, damping: float, seed: int = 0) -> dict[str, Tensor]:
        """Normal draws with variance 1 / (F + damping)."""
        generator = torch.Generator().manual_seed(seed)
        return {
            name: torch.randn(n, *f.shape, generator=generator, dtype=f.dtype).to(f.device) * damped(f, damping).rsqrt()
            for name, f in self.entries.items()
        }

    def to_dense(self) -> Tensor:
        """A matrix with the entries on its diagonal."""
        return torch.diag(torch.cat([f.flatten() for f in self.entries.values()]))

    def _plus(self, other: Self) -> Self:
        return type(self)({name: f + other.entries[name] for name, f in self.entries.items()}, info=self.info)

    def _times(self, factor: float) -> Self:
        return type(self)({name: f * factor for name, f in self.entries.items()}, info=self.info)

    def complete_square(
        self, centre: Parameters, other: Self, other_centre: Parameters
    ) -> tuple[Self, dict[str, Tensor], float]:
        """Exact, entry by entry: H = F + G, c = a + G/H (b - a), k = sum F G / H (b - a)^2.

        Kept about its centre, not as sum F theta: near its minimum that would be a difference of large numbers.
        """
        total, middle, constant = {}, {}, []
        for name, f in self.entries.items():
            a, b, g = wide(centre[name]), wide(other_centre[name]), wide(other.entries[name])
            h = wide(f) + g
            share = torch.where(h > 0, g / h, 1.0)  # nothing known of this weight: the newer value is as good as any
            total[name] = h.to(f)
            middle[name] = (a + share * (b - a)).to(centre[name])
            constant.append((wide(f) * share * (b - a).square()).sum().item())
        return type(self)(total, info=self.info), middle, math.fsum(constant)

    def add_product_(self, target: Parameters, delta: Parameters, factor: float) -> None:
        """One fused multiply-add over all parameters; in 32 bits and then rounded for parameters of 16."""
        if any(target[name].dtype != f.dtype for name, f in self.entries.items()):
            for name, f in self.entries.items():
                target[name].add_((f * delta[name] * factor).to(target[name].dtype))
            return
        names = list(self.entries)
        torch._foreach_addcmul_(
            [target[n] for n in names], [delta[n] for n in names], [self.entries[n] for n in names], value=factor
        )

    def grown(self, like: Parameters) -> Self:
        """Padded with zeros at the end of each dimension."""
        return type(self)({name: _padded(self.entries.get(name), like[name]) for name in like}, info=self.info)

    def to(self, like: Parameters) -> Self:
        """Each entry moved."""
        moved = {
            name: f.to(like[name].device, torch.promote_types(like[name].dtype, torch.float32)) if name in like else f
            for name, f in self.entries.items()
        }
        return type(self)(moved, info=self.info)

    def tensors(self) -> dict[str, Tensor]:
        """The entries."""
        return dict(self.entries)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], info: Mapping[str, Any], form: Mapping[str, Any]) -> Self:  # noqa: ARG003
        """Undo `tensors`; there is nothing else."""
        return cls(dict(tensors), info=info)


class DiagonalAccumulator(Accumulator):
    """Sums squared per-example gradients: float32 within a batch, float64 across batches."""

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        self._like = dict(parameters)
        self._sum = {name: torch.zeros_like(wide(p)) for name, p in parameters.items()}

    def add_layer(self, use: LayerUse, gradients: list[Tensor]) -> None:
        """Squares by the layer's rule, which needs no per-example weight gradient where there is a shorter way."""
        for name, squares in use.rule.squares(use.module, use.inputs, gradients).items():
            if name in use.names:
                self._sum[use.names[name]] += wide(squares)

    def add_gradients(self, gradients: Mapping[str, Tensor]) -> None:
        """Squares of the per-example gradients."""
        for name, g in gradients.items():
            self._sum[name] += wide(g.square().sum((0, 1)))

    @property
    def totals(self) -> Mapping[str, Tensor]:
        """The sums of squares so far, float64."""
        return self._sum

    def sums(self) -> list[Tensor]:
        """The sums of squares."""
        return list(self._sum.values())

    def finish(self, n_examples: float, info: Mapping[str, Any]) -> Diagonal:
        """The mean, in the parameters' own type and place."""
        return Diagonal({name: (s / n_examples).to(self._like[name]) for name, s in self._sum.items()}, info=info)


class DiagonalStructure(Structure):
    """Keep the diagonal (Kirkpatrick et al. 2017, eq. 3)."""

    takes_groups = True

    def accumulator(self, model: nn.Module, parameters: Mapping[str, nn.Parameter]) -> DiagonalAccumulator:  # noqa: ARG002
        """Zeros for every parameter."""
        return DiagonalAccumulator(parameters)
