"""What is looked at while a task is trained: losses, penalties, and whether they are still numbers."""

import math
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from cl_fisher.error import RunError
from cl_fisher.event import Event, StepTaken
from cl_fisher.training.diagnosis import divergence
from cl_fisher.training.module import ContinualModule


class Watch(pl.Callback):
    """Reports every `log_every` optimizer steps and stops a run whose loss or weights are no longer finite.

    Losses are only looked at when a report is due, so that a GPU is not made to wait for each step.
    """

    def __init__(
        self, task: int, steps: int, first_global_step: int, log_every: int, send: Callable[[Event], None]
    ) -> None:
        self.task, self.steps, self.offset, self.log_every, self.send = task, steps, first_global_step, log_every, send
        self.largest_penalty = 0.0
        self._losses: list[Tensor] = []
        self._reported = 0

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,  # noqa: ARG002
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Keep the loss; report when due."""
        self._losses.append(outputs["loss"])
        step = trainer.global_step
        if step != self._reported and (step % self.log_every == 0 or step == self.steps):
            assert isinstance(pl_module, ContinualModule)
            self._report(trainer, pl_module, step)

    def _report(self, trainer: pl.Trainer, module: ContinualModule, step: int) -> None:
        losses = torch.stack(self._losses).float() * trainer.accumulate_grad_batches
        bad = (~losses.isfinite()).nonzero()
        if len(bad):
            since = self._reported + 1 + int(bad[0]) // trainer.accumulate_grad_batches
            raise RunError(f"task {self.task}, step {since}: the loss is {losses[bad[0]].item()}; {divergence(module)}")
        penalty = module.continual.penalty()
        if not math.isfinite(penalty):
            raise RunError(f"task {self.task}, step {step}: the penalty is {penalty}; {divergence(module)}")
        self.largest_penalty = max(self.largest_penalty, penalty)
        epoch = trainer.current_epoch + 1
        self.send(StepTaken(self.task, epoch, step, self.offset + step, losses.mean().item(), penalty))
        self._losses, self._reported = [], step

    def check_weights(self, module: ContinualModule) -> None:
        """Raise unless every weight is finite: the last step's loss cannot show what that step did."""
        for name, p in module.model.named_parameters():
            if not bool(p.isfinite().all()):
                raise RunError(
                    f"task {self.task}, step {self._reported}: weight {name} is not finite; {divergence(module)}"
                )
