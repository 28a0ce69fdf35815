"""A dense matrix for each module, nothing between modules."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from cl_fisher.bounds import Count, checked
from cl_fisher.fisher.structure.dense import LIMIT, DenseAccumulator, check_size
from cl_fisher.fisher.structure.direct_sum import DirectSum
from cl_fisher.fisher.structure.structure import Accumulator, Structure


class BlockDiagonalAccumulator(Accumulator):
    """Dense sums, block by block.

    Joint, so that all parameters of a block come together also where only some of them have a rule.
    """

    joint: ClassVar[bool] = True

    def __init__(self, blocks: Mapping[str, Mapping[str, Tensor]], names: tuple[str, ...]) -> None:
        self._blocks = [DenseAccumulator(block) for block in blocks.values()]
        self._names = names

    def add_gradients(self, gradients: Mapping[str, Tensor]) -> None:
        """Each block takes its own parameters."""
        for block in self._blocks:
            block.add_gradients(gradients)

    def sums(self) -> list[Tensor]:
        """Those of all blocks."""
        return [s for block in self._blocks for s in block.sums()]

    def finish(self, n_examples: float, info: Mapping[str, Any]) -> DirectSum:
        """The mean of each block."""
        return DirectSum(tuple(block.finish(n_examples, {}) for block in self._blocks), self._names, info=info)


class BlockDiagonalStructure(Structure):
    """Keep a dense block for the parameters of each module: what Kronecker factors approximate (Martens & Grosse 2015).

    Args:
        limit: weights of a module; a network that has one with more is refused.
    """

    @checked
    def __init__(self, limit: Count = LIMIT) -> None:
        self.limit = limit

    def accumulator(self, model: nn.Module, parameters: Mapping[str, nn.Parameter]) -> BlockDiagonalAccumulator:  # noqa: ARG002
        """One block for all parameters of one prefix."""
        blocks: dict[str, dict[str, Tensor]] = {}
        for name, parameter in parameters.items():
            blocks.setdefault(name.rpartition(".")[0], {})[name] = parameter
        for module, block in blocks.items():
            what = f"layer {module}" if module else "the network"
            check_size(block, self.limit, what, "fisher/structure=kronecker or low_rank")
        return BlockDiagonalAccumulator(blocks, tuple(parameters))
