"""How an estimate is put together: the seam between the loop over data and the matrix that comes of it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from cl_fisher.fisher.batches import Batch
from cl_fisher.fisher.rule.rule import LayerUse
from cl_fisher.fisher.structure.matrix import FisherMatrix


class Accumulator(ABC):
    """Takes what one batch after the other yields, sums over examples, and divides once at the end."""

    reads: ClassVar[bool] = True
    """Whether gradients are wanted at all."""
    keeps_data: ClassVar[bool] = False
    """Whether it wants the batches themselves, by `add_batch`, instead of gradients."""
    joint: ClassVar[bool] = False
    """Whether the gradients of all parameters of an example must come together, by `add_gradients`."""

    def takes(self, use: LayerUse) -> bool:  # noqa: ARG002
        """Whether `add_layer` can do something with this use; else its gradients come by `add_gradients`."""
        return not self.joint

    def add_inputs(self, use: LayerUse, weights: Tensor | None) -> None:  # noqa: B027
        """Once per batch and layer use, before its gradients; `weights` [N] is what each example counts, 1 if None."""

    def add_layer(self, use: LayerUse, gradients: list[Tensor]) -> None:
        """One use of a layer: its input and, for each of some columns, the gradient at its output [N, ...].

        The gradients hold the root of the examples' weights already.
        """
        raise NotImplementedError(type(self).__name__)

    def add_gradients(self, gradients: Mapping[str, Tensor]) -> None:
        """Per-example gradients [V, n, *shape], for a part of the batch and of the columns.

        Of all parameters together if `joint`, else of those that no layer use covers, some at a time.
        """
        raise NotImplementedError(type(self).__name__)

    def add_batch(self, batch: Batch, columns: Tensor) -> None:  # noqa: B027
        """The batch itself and its cotangents [V, N, C], some of the columns at a time."""

    def sums(self) -> list[Tensor]:
        """What adds up over processes: reduced in place before `next_pass` and `finish`."""
        raise NotImplementedError(type(self).__name__)

    def next_pass(self, n_examples: float) -> bool:  # noqa: ARG002
        """Called at the end of each pass over the data; True: once more, please."""
        return False

    @abstractmethod
    def finish(self, n_examples: float, info: Mapping[str, Any]) -> FisherMatrix:
        """The mean over examples (the sum of their weights)."""


class Structure(ABC):
    """A choice of what to keep of the Fisher."""

    takes_groups: ClassVar[bool] = False
    """Whether gradients of whole groups of examples can stand in for those of examples (`batched_empirical`)."""

    @abstractmethod
    def accumulator(self, model: nn.Module, parameters: Mapping[str, nn.Parameter]) -> Accumulator:
        """An empty accumulator for these trainable parameters of the model.

        Raises:
            InputError: what this structure cannot do for such parameters.
        """
