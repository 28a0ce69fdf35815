"""Kronecker factors where a layer has them, the diagonal elsewhere."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

from torch import Tensor, nn

from cl_fisher.bounds import Count, checked
from cl_fisher.error import InputError
from cl_fisher.fisher.rule.rule import LayerUse
from cl_fisher.fisher.structure.diagonal import DiagonalAccumulator
from cl_fisher.fisher.structure.direct_sum import DirectSum
from cl_fisher.fisher.structure.ekfac import EkfacAccumulator
from cl_fisher.fisher.structure.kronecker import KroneckerAccumulator, Sharing, assembled, known_sharing
from cl_fisher.fisher.structure.structure import Accumulator, Structure

Matrix = Literal["kronecker", "ekfac"]


class MixedAccumulator(Accumulator):
    """Hands layers that multiply by a matrix to one accumulator, everything else to diagonal ones."""

    def __init__(self, parameters: Mapping[str, Tensor], matrix: KroneckerAccumulator | EkfacAccumulator) -> None:
        self._parameters = dict(parameters)
        self._matrix = matrix
        self._rest: dict[tuple[str, ...], DiagonalAccumulator] = {}
        self._again = False
        """In a second pass, which is the matrix's own business."""

    def add_inputs(self, use: LayerUse, weights: Tensor | None) -> None:
        """Of use to the matrix only."""
        if self._matrix.takes(use):
            self._matrix.add_inputs(use, weights)

    def add_layer(self, use: LayerUse, gradients: list[Tensor]) -> None:
        """To the one or the other."""
        if self._matrix.takes(use):
            self._matrix.add_layer(use, gradients)
        elif not self._again:
            self._diagonal(*use.names.values()).add_layer(use, gradients)

    def add_gradients(self, gradients: Mapping[str, Tensor]) -> None:
        """To the diagonal."""
        if not self._again:
            for name, g in gradients.items():
                self._diagonal(name).add_gradients({name: g})

    def _diagonal(self, *names: str) -> DiagonalAccumulator:
        if names not in self._rest:
            self._rest[names] = DiagonalAccumulator({name: self._parameters[name] for name in names})
        return self._rest[names]

    def sums(self) -> list[Tensor]:
        """Of this pass."""
        rest = [] if self._again else [sum_ for part in self._rest.values() for sum_ in part.sums()]
        return self._matrix.sums() + rest

    def next_pass(self, n_examples: float) -> bool:
        """As the matrix wants."""
        self._again = True
        return self._matrix.next_pass(n_examples)

    def finish(self, n_examples: float, info: Mapping[str, Any]) -> DirectSum:
        """A block per layer, and a diagonal per other parameter."""
        whole = self._matrix.finish(n_examples, info)
        blocks = [block for block in whole.blocks if block.kind != "diagonal"]
        entries: dict[str, Tensor] = {}
        for part in self._rest.values():
            for name, entry in part.finish(n_examples, {}).entries.items():
                entries[name] = entries[name] + entry if name in entries else entry
        covered = {name for block in blocks for name in block.shapes()}
        if both := [name for name, entry in entries.items() if name in covered and bool(entry.any())]:
            raise InputError(
                f"{both[0]} multiplies its input as a matrix in some batches and not in others, so that it has "
                "Kronecker factors in these only: fisher/structure=diagonal can do this"
            )
        return assembled(blocks, entries, self._parameters, info)


class MixedStructure(Structure):
    """A Kronecker-factored matrix for each layer that has one, the diagonal of all other parameters.

    Args:
        matrix: `kronecker` or `ekfac`, which reads the data twice.
        sharing: as in `KroneckerStructure`.
        rank: as in `KroneckerStructure`; of no use to `ekfac`.
    """

    @checked
    def __init__(self, matrix: Matrix = "kronecker", sharing: Sharing = "expand", rank: Count | None = 1) -> None:
        if matrix not in get_args(Matrix):
            raise InputError(f"matrix={matrix} is unknown: choose from {', '.join(get_args(Matrix))}")
        self.matrix: Matrix = matrix
        self.sharing: Sharing = known_sharing(sharing)
        self.rank = rank

    def accumulator(self, model: nn.Module, parameters: Mapping[str, nn.Parameter]) -> MixedAccumulator:  # noqa: ARG002
        """Which layers there are, the first batch tells."""
        if self.matrix == "ekfac":
            return MixedAccumulator(parameters, EkfacAccumulator(parameters, self.sharing))
        return MixedAccumulator(parameters, KroneckerAccumulator(parameters, self.sharing, self.rank))
