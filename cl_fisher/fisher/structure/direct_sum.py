"""Blocks that know nothing of each other, each kept in its own way."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from cl_fisher.error import InputError
from cl_fisher.fisher.structure.diagonal import Diagonal
from cl_fisher.fisher.structure.matrix import FisherMatrix, Parameters


@dataclass(frozen=True, eq=False)
class DirectSum(FisherMatrix):
    """A block-diagonal matrix over disjoint sets of parameters; every operation goes block by block."""

    kind: ClassVar[str] = "direct_sum"
    blocks: tuple[FisherMatrix, ...]
    names: tuple[str, ...]
    """All parameters, in the model's order."""

    def _each(self, operation: Callable[[FisherMatrix, int], dict[str, Tensor]]) -> dict[str, Tensor]:
        found = {name: t for i, block in enumerate(self.blocks) for name, t in operation(block, i).items()}
        return {name: found[name] for name in self.names}

    def mv(self, vector: Parameters) -> dict[str, Tensor]:
        """F v."""
        return self._each(lambda block, _: block.mv(vector))

    def quadratic(self, delta: Parameters) -> Tensor:
        """delta^T F delta."""
        return torch.stack([block.quadratic(delta) for block in self.blocks]).sum()

    def solve(self, vector: Parameters, damping: float) -> dict[str, Tensor]:
        """(F + damping I)^-1 v."""
        return self._each(lambda block, _: block.solve(vector, damping))

    def diagonal(self) -> dict[str, Tensor]:
        """The diagonal."""
        return self._each(lambda block, _: block.diagonal())

    def trace(self) -> float:
        """Sum over blocks."""
        return math.fsum(block.trace() for block in self.blocks)

    def norm(self) -> float:
        """Root of the sum of the blocks' squares."""
        return math.sqrt(math.fsum(block.norm() ** 2 for block in self.blocks))

    def logdet(self, damping: float) -> float:
        """Sum over blocks."""
        return math.fsum(block.logdet(damping) for block in self.blocks)

    def eigenvalues(self) -> Tensor:
        """Those of all blocks, sorted."""
        return torch.cat([block.eigenvalues() for block in self.blocks]).sort(descending=True).values

    def largest_eigenvalue(self) -> float:
        """The largest of any block."""
        return max(block.largest_eigenvalue() for block in self.blocks)

    def sample(self, n: int, damping: float, seed: int = 0) -> dict[str, Tensor]:
        """Independent draws in each block."""
        # seeds far apart: two blocks of one shape must not draw the same
        return self._each(lambda block, i: block.sample(n, damping, seed + i * 1_000_003))

    def shapes(self) -> dict[str, torch.Size]:
        """Of all parameters."""
        found = {name: shape for block in self.blocks for name, shape in block.shapes().items()}
        return {name: found[name] for name in self.names}

    def to_dense(self) -> Tensor:
        """Blocks put where their parameters are."""
        sizes = {name: shape.numel() for block in self.blocks for name, shape in block.shapes().items()}
        first, total = {}, 0
        for name in self.names:
            first[name], total = total, total + sizes[name]
        parts = [block.to_dense() for block in self.blocks]
        dense = parts[0].new_zeros(total, total)
        for block, part in zip(self.blocks, parts, strict=True):
            rows = torch.cat([torch.arange(first[n], first[n] + sizes[n]) for n in block.shapes()]).to(dense.device)
            dense[rows[:, None], rows] = part.to(dense)
        return dense

    def _plus(self, other: Self) -> Self:
        return self._with(self._combined(other, lambda a, b: a + b))

    def merged(self, other: Self) -> Self:
        """Block by block; the error is that of the whole."""
        lost, exact = [0.0], []

        def merge(a: FisherMatrix, b: FisherMatrix) -> FisherMatrix:
            kept = a.merged(b)
            if error := kept.info.get("merge_error", 0.0):
                exact.append((a + b).norm())
                lost.append(error * exact[-1])
            return kept

        blocks = self._combined(other, merge)
        exact += [block.norm() for block in blocks if not block.info.get("merge_error", 0.0)]
        error = {"merge_error": math.hypot(*lost) / math.hypot(*exact)} if any(lost) else {}
        return self._with(blocks, dict(self.info) | error)

    def _times(self, factor: float) -> Self:
        return self._with([factor * block for block in self.blocks])

    def _with(self, blocks: list[FisherMatrix], info: Mapping[str, Any] | None = None) -> Self:
        return type(self)(tuple(blocks), self.names, info=self.info if info is None else info)

    def _combined(self, other: Self, add: Callable[[FisherMatrix, FisherMatrix], FisherMatrix]) -> list[FisherMatrix]:
        """Blocks over the same parameters added up; what one of the two knows nothing of is taken from the other."""
        mine = {frozenset(block.shapes()): block for block in self.blocks}
        theirs = {frozenset(block.shapes()): block for block in other.blocks}
        both = [_summed(mine[key], theirs[key], add) for key in mine if key in theirs]
        alone = [b for key, b in mine.items() if key not in theirs] + [
            b for key, b in theirs.items() if key not in mine
        ]
        known = [block for block in alone if block.trace() != 0]
        covered = [name for block in both + known for name in block.shapes()]
        if len(set(covered)) < len(covered):
            twice = next(name for name in covered if covered.count(name) > 1)
            raise InputError(f"the two matrices keep {twice} in blocks of different parameters, so they do not add up")
        unknown = {
            n: e for block in alone if block.trace() == 0 for n, e in block.diagonal().items() if n not in covered
        }
        return both + known + ([Diagonal(unknown)] if unknown else [])

    def grown(self, like: Parameters) -> Self:
        """Each block padded in its own way; parameters that are new have a zero diagonal."""
        blocks = [block.grown({name: like[name] for name in block.shapes()}) for block in self.blocks]
        if new := {name: torch.zeros_like(p) for name, p in like.items() if name not in self.names}:
            blocks.append(Diagonal(new))
        return type(self)(tuple(blocks), tuple(like), info=self.info)

    def to(self, like: Parameters) -> Self:
        """Each block moved."""
        return self._with([block.to(like) for block in self.blocks])

    def tensors(self) -> dict[str, Tensor]:
        """Those of all blocks, under the block's number."""
        return {f"{i}/{name}": t for i, block in enumerate(self.blocks) for name, t in block.tensors().items()}

    def form(self) -> dict[str, Any]:
        """The blocks' kinds and forms."""
        blocks = [{"kind": b.kind, "form": b.form(), "info": dict(b.info)} for b in self.blocks]
        return {"names": list(self.names), "blocks": blocks}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], info: Mapping[str, Any], form: Mapping[str, Any]) -> Self:
        """Not from here: `storage.restored` knows the kinds of blocks."""
        raise NotImplementedError


def _summed(
    one: FisherMatrix, two: FisherMatrix, add: Callable[[FisherMatrix, FisherMatrix], FisherMatrix]
) -> FisherMatrix:
    """The sum of two blocks over the same parameters; one that is zero gives way to another kind."""
    if type(one) is type(two):
        return add(one, two)
    for zero, other in ((one, two), (two, one)):
        if zero.trace() == 0:
            return other
    name = next(iter(one.shapes()))
    raise InputError(f"the two matrices keep {name} as {one.kind} and as {two.kind}, so they do not add up")
