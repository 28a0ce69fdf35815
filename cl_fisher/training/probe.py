"""Evaluation while a task is trained: right before its first step, every n optimizer steps, and at its end."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import lightning.pytorch as pl
import torch

from cl_fisher.benchmark.task import TaskSequence
from cl_fisher.seeding import generator
from cl_fisher.training import checkpoint


class Probe(pl.Callback):
    """Calls `measure(step)` when it is due. Whatever is drawn meanwhile, training goes on with the draws it would have.

    The clock starts anew with each task, so that all tasks are measured at the same steps. The last of `steps` is
    measured at the `end`, once the task has been consolidated, which may change what is predicted (iCaRL's exemplars).
    """

    def __init__(self, every: int, steps: int, measure: Callable[[int], None]) -> None:
        self.every, self.steps, self.measure = every, steps, measure
        self._last = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Measure where the task begins."""
        self._measure(0)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,  # noqa: ARG002
        outputs: Any,  # noqa: ARG002
        batch: Any,  # noqa: ARG002
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Measure when due; several batches may make one step."""
        step = trainer.global_step
        if step != self._last and step % self.every == 0 and step < self.steps:
            self._measure(step)

    def end(self) -> None:
        """Measure what the task has come to."""
        self._measure(self.steps)

    def _measure(self, step: int) -> None:
        self._last = step
        state = checkpoint.random_state()
        try:
            self.measure(step)
        finally:
            checkpoint.set_random_state(state)


def begun(sequence: TaskSequence, seen: int, samples: int | None, seed: int) -> TaskSequence:
    """The tasks that have been begun, each with at most `samples` of its test examples, always the same ones."""
    tasks = sequence.tasks[:seen]
    if samples is not None:
        draws = [torch.randperm(len(t.test), generator=generator(seed, "probe", t.number))[:samples] for t in tasks]
        few = zip(tasks, draws, strict=True)
        tasks = tuple(replace(task, test=task.test.subset(draw.sort().values)) for task, draw in few)
    return replace(sequence, tasks=tasks)
