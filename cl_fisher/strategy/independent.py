"""The upper bound without transfer."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from cl_fisher.bounds import NonNegative, checked
from cl_fisher.strategy.batch import Heads
from cl_fisher.strategy.strategy import Strategy

SCENARIOS = ("task",)
WHY = "each task has a network of its own, and which one to ask must be known"
UNBLURRED = "a task's network is to see that task alone"


class Independent(Strategy):
    """One network a task: each begins with the initial weights and buffers, and predicts its own task.

    Nothing is forgotten and nothing is carried over. A task that has not begun yet is predicted by the initial network,
    so that forward transfer is zero. Memory grows by one network a task.

    Args:
        model: the network, as every task is to find it.
        strength: accepted and ignored.
    """

    starts_anew: ClassVar[bool] = True

    @checked
    def __init__(self, model: nn.Module, strength: NonNegative = 0.0) -> None:
        super().__init__(model, strength)
        self._networks: list[dict[str, Tensor]] = [_copy(model)]
        """The initial one, then the finished ones; that of the task that was begun last is the model itself."""
        self._begun = 0

    def begin_task(self, number: int, heads: Heads) -> None:  # noqa: ARG002
        """Put the network of the task before aside, and begin anew."""
        if self._begun:
            self._networks.append(_copy(self.model))
            self.model.load_state_dict(self._networks[0])
        self._begun = number

    def consolidate(self, batches: Iterable[Sequence[Any]], classes: Sequence[int] | None = None) -> None:  # noqa: ARG002
        """Nothing is left to do."""
        self._check_begun(self._begun)

    @contextmanager
    def serving(self, task: int) -> Iterator[Callable[[Tensor], Tensor]]:
        """The task's network, swapped in."""
        if task == self._begun or not self._begun:
            yield self.model
            return
        now = _copy(self.model)
        self.model.load_state_dict(self._networks[task if task < self._begun else 0])
        try:
            yield self.model
        finally:
            self.model.load_state_dict(now)

    def memory(self) -> dict[str, Any]:
        """All networks but the model."""
        return {"networks": list(self._networks), "begun": self._begun}

    def recall(self, memory: dict[str, Any]) -> None:
        """Undo `memory`."""
        self._networks, self._begun = list(memory["networks"]), memory["begun"]


@torch.no_grad()
def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: t.detach().clone() for name, t in model.state_dict().items()}
