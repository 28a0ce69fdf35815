"""Experience replay."""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from cl_fisher.bounds import Count, Index, NonNegative, check_choice, checked
from cl_fisher.strategy.batch import Batch, Heads, ends, masks, nll, ranges
from cl_fisher.strategy.buffer import Buffer, Memory, Replay, replayed
from cl_fisher.strategy.strategy import Strategy

Weighting = Literal["examples", "tasks"]


class ER(Strategy):
    """Each batch is joined by examples from a small memory (Chaudhry et al. 2019, "On tiny episodic memories").

    Each example is judged by the outputs that compete for its own task.

    Args:
        model: the network.
        strength: accepted and ignored.
        memory: see `Buffer`.
        capacity: see `Buffer`.
        per_class: see `Buffer`.
        replay: see `Buffer`.
        replay_batch_size: how many examples are drawn at each step; as many as the batch has if None.
        weighting: "examples": the loss is the mean over the joined batch. "tasks": 1/t times the mean over the
            current examples in task t, plus 1 - 1/t times that over the replayed ones (van de Ven et al. 2022); not
            in a composition with iCaRL, whose loss has other terms.
        seed: of all draws.
    """

    remembers: ClassVar[bool] = True

    @checked
    def __init__(
        self,
        model: nn.Module,
        strength: NonNegative = 0.0,
        memory: Memory = "class_balanced",
        capacity: Count = 1000,
        per_class: Count | None = None,
        replay: Replay = "earlier",
        replay_batch_size: Count | None = None,
        weighting: Weighting = "examples",
        seed: Index = 0,
    ) -> None:
        super().__init__(model, strength)
        check_choice("weighting", weighting, Weighting)
        self.buffer = Buffer(memory, capacity, per_class, replay, seed)
        self.replay_batch_size, self.weighting = replay_batch_size, weighting
        self.reads_loss = weighting == "tasks"
        self._heads: Heads = ()

    def begin_task(self, number: int, heads: Heads) -> None:
        """What is in memory is of earlier tasks from now on."""
        self.buffer.begin(number)
        self._heads = heads

    def mix(self, batch: Batch) -> Batch:
        """The batch with replayed examples behind it; the memory takes note of the batch afterwards."""
        self._check_begun(self.buffer.phase)
        size = len(batch.targets) if self.replay_batch_size is None else self.replay_batch_size
        rows = self.buffer.draw(size, batch.inputs)
        self.buffer.see(batch)
        if rows is None:
            return batch
        return Batch(*(torch.cat(pair) for pair in zip(batch, replayed(rows), strict=True)))

    def loss(self, batch: Batch, logits: Tensor, loss: Tensor) -> Tensor:
        """With weighting="tasks": other weights for the terms of the plain loss, and for nothing else in it."""
        added = batch.position < 0
        if self.weighting == "examples" or not added.any():
            return loss
        each = nll(logits, batch.targets, batch.task, masks(self._heads, logits.shape[1]))
        current = 1 / self.buffer.phase
        return loss - each.mean() + current * each[~added].mean() + (1 - current) * each[added].mean()

    def consolidate(self, batches: Iterable[Sequence[Any]], classes: Sequence[int] | None = None) -> None:  # noqa: ARG002
        """Take examples of the task into a class-balanced memory."""
        self._check_begun(self.buffer.phase)
        self.buffer.take(batches)

    def memory(self) -> dict[str, Any]:
        """The examples, where the draws stand, and which outputs compete."""
        return self.buffer.state() | {"heads": ends(self._heads)}

    def recall(self, memory: dict[str, Any]) -> None:
        """Undo `memory`."""
        self.buffer.restore(memory)
        self._heads = ranges(memory["heads"])
