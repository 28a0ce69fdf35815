"""How an estimate is put together: the seam between the loop over data and the matrix that comes of it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from cl_fisher.fisher.rule.rule import LayerUse
from cl_fisher.fisher.structure.matrix import FisherMatrix


class Accumulator(ABC):
    """Takes what one batch after the other yields, sums over examples, and divides once at the end."""

    @abstractmethod
    def add_layer(self, use: LayerUse, gradients: list[Tensor]) -> None:
        """One use of a layer: its input and, per column, the gradient at its output [N, ...]."""

    @abstractmethod
    def add_gradients(self, gradients: Mapping[str, Tensor]) -> None:
        """Per-example gradients [V, n, *shape] of parameters that no rule covers, for a part of the batch."""

    @abstractmethod
    def finish(self, n_examples: int, info: Mapping[str, Any]) -> FisherMatrix:
        """The mean over examples."""


class Structure(ABC):
    """A choice of what to keep of the Fisher."""

    @abstractmethod
    def accumulator(self, parameters: Mapping[str, Tensor]) -> Accumulator:
        """An empty accumulator for these trainable parameters."""
