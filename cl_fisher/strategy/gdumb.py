"""Greedy sampler and dumb learner."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from cl_fisher.bounds import Count, Index, NonNegative, checked
from cl_fisher.dataset.examples import Examples
from cl_fisher.strategy.batch import Heads
from cl_fisher.strategy.buffer import Buffer
from cl_fisher.strategy.strategy import Strategy

_PIECE = 500  # examples that are read at a time


class GDumb(Strategy):
    """GDumb (Prabhu et al. 2020): at each task, train from the initial weights on a class-balanced memory alone.

    Its epochs or iterations are the run's: `epochs` are passes over the memory. What continual learning gains beyond
    the memory shows in comparison with it.

    Args:
        model: the network, as it is to begin with at each task.
        strength: accepted and ignored.
        capacity: see `Buffer`.
        per_class: see `Buffer`.
        seed: of all draws.
    """

    starts_anew: ClassVar[bool] = True
    chooses_data: ClassVar[bool] = True

    @checked
    def __init__(
        self,
        model: nn.Module,
        strength: NonNegative = 0.0,
        capacity: Count = 1000,
        per_class: Count | None = None,
        seed: Index = 0,
    ) -> None:
        super().__init__(model, strength)
        self.buffer = Buffer("class_balanced", capacity, per_class, seed=seed)
        self._initial = {name: w.detach().clone() for name, w in model.state_dict().items()}

    def begin_task(self, number: int, heads: Heads) -> None:  # noqa: ARG002
        """Back to the initial weights and buffers."""
        self.buffer.begin(number)
        self.model.load_state_dict(self._initial)

    def training_data(self, tasks: Mapping[int, Examples]) -> Mapping[int, Examples]:
        """The memory, after the task's examples have competed for a place in it."""
        self._check_begun(self.buffer.phase)
        for number, examples in tasks.items():
            for which in torch.arange(len(examples)).split(_PIECE):
                targets = examples.targets[which]
                self.buffer.add(examples.inputs(which), targets, torch.full_like(targets, number))
        return self.buffer.examples()

    def memory(self) -> dict[str, Any]:
        """The examples, where the draws stand, and the initial weights."""
        return self.buffer.state() | {"initial": self._initial}

    def recall(self, memory: dict[str, Any]) -> None:
        """Undo `memory`."""
        self.buffer.restore(memory)
        self._initial = memory["initial"]
