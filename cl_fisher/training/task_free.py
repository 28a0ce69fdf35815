"""Consolidation without task boundaries: every n optimizer steps, of what was seen since the last time."""

from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from cl_fisher.strategy.batch import Batch
from cl_fisher.training.batches import PhaseData


class TaskFree(pl.Callback):
    """Calls `consolidate` with the positions in `data` of what the last `every` optimizer steps saw, and the step.

    Each position comes once; the step is the sequence's.

    The clock is that of the whole sequence: it does not start anew with a task. What was seen after the last full
    stretch of a task is not carried over into the next one, whose examples are of another phase. Examples of tasks that
    are not in `data`, for which other outputs compete, do not enter: a Fisher is of one set of outputs.
    """

    def __init__(
        self, every: int, first_global_step: int, data: PhaseData, consolidate: Callable[[Tensor, int], None]
    ) -> None:
        self.every, self.offset, self.data, self.consolidate = every, first_global_step, data, consolidate
        self._recent: list[int] = []
        self._last = 0
        sizes = torch.tensor([len(part) for part in data.parts])
        self._first = dict(zip(data.task[data.first[sizes > 0]].tolist(), data.first[sizes > 0].tolist(), strict=True))

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,  # noqa: ARG002
        outputs: Any,  # noqa: ARG002
        batch: Batch,
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Keep the positions of the batch; consolidate when due."""
        pairs = zip(batch.task.tolist(), batch.position.tolist(), strict=True)
        self._recent += [self._first[number] + position for number, position in pairs if number in self._first]
        step = trainer.global_step
        if step == self._last or (self.offset + step) % self.every:
            return
        self._last = step
        which = torch.tensor(sorted(set(self._recent)), dtype=torch.int64)
        self._recent = []
        if len(which) == 0:
            return
        with torch.enable_grad():
            self.consolidate(which, self.offset + step)
