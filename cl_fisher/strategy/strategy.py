"""What a strategy is: a handful of hooks around the training of one task after the other."""

from abc import ABC
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from cl_fisher.fisher import FisherMatrix


class Strategy(ABC):  # noqa: B024 - every hook may be left empty
    """Knows the model and the data that it is shown; never the trainer, the configuration or the benchmark.

    It is no nn.Module: a network stored on it would otherwise join the model's parameters.
    """

    trains_on: ClassVar[Literal["task", "seen", "all"]] = "task"
    """What the stream trains on: each task, all tasks so far, or all tasks at once."""

    def __init__(self, model: nn.Module, strength: float) -> None:
        self.model = model
        self.strength = strength

    def add_gradient(self, parameters: Iterable[nn.Parameter] | None = None) -> None:  # noqa: B027
        """Add the gradient of the penalty to `.grad`: after backward, before clipping, once per optimizer step.

        `parameters`: those that the optimizer about to step holds, where there are several optimizers; all if None.
        """

    def penalty(self) -> float:
        """The value of the penalty at the current weights, strength included; 0.0 without one."""
        return 0.0

    def consolidate(
        self,
        batches: Iterable[Sequence[Any]],  # noqa: ARG002
        classes: Sequence[int] | None = None,  # noqa: ARG002
    ) -> FisherMatrix | None:
        """Take note of a finished task: its training batches and active classes. Returns the task's Fisher, if any."""
        return None

    def check(
        self,
        batches: Iterable[Sequence[Any]],  # noqa: ARG002
        classes: Sequence[int] | None = None,  # noqa: ARG002
    ) -> FisherMatrix | None:
        """Raise `InputError` if `consolidate` would on batches like these few; change nothing. Returns their Fisher."""
        return None

    def curvature_bound(self) -> float:
        """Largest eigenvalue (or a bound of it) of what the penalty sums up, strength not included; 0.0 without one."""
        return 0.0

    @property
    def state_bytes(self) -> int:
        """Memory that the strategy holds beside the model."""
        return bytes_of(self.state_dict())

    @property
    def merge_error(self) -> float:
        """Relative error of what is kept of all tasks together, in Frobenius norm; 0.0 where it is exact."""
        return 0.0

    def state_dict(self) -> dict[str, Any]:
        """All state, as tensors and plain containers."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Undo `state_dict`."""


def bytes_of(state: Any) -> int:
    """The bytes of all tensors in plain containers."""
    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    if isinstance(state, Mapping):
        return sum(map(bytes_of, state.values()))
    return sum(map(bytes_of, state)) if isinstance(state, (list, tuple)) else 0
