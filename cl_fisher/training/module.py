"""The Lightning side of one network on a sequence of tasks."""

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from cl_fisher.strategy.strategy import Strategy
from cl_fisher.training.batches import Batch


class ContinualModule(pl.LightningModule):
    """A network, what keeps it from forgetting, and the output units that compete in the current phase."""

    def __init__(self, model: nn.Module, strategy: Strategy) -> None:
        super().__init__()
        self.model = model
        # Lightning owns the name `strategy` for its own devices
        self.continual = strategy
        self.optimizer: Optimizer | None = None
        self.active: range | None = None
        self._masks: Tensor | None = None

    def begin_phase(self, active: Sequence[range], n_outputs: int, optimizer: Optimizer) -> None:
        """Say which outputs compete for the examples of each part, and which optimizer steps."""
        self.optimizer = optimizer
        self.active = active[0] if len(set(active)) == 1 else None
        self._masks = None
        if self.active is None:
            units = torch.arange(n_outputs)
            self._masks = torch.stack([(units >= a.start) & (units < a.stop) for a in active])

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits of all outputs."""
        return self.model(inputs)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:  # noqa: ARG002
        """Mean negative log-likelihood per example, over the active outputs."""
        inputs, targets, _, part = batch
        logits = self.model(inputs)
        if self.active is None:
            assert self._masks is not None
            return cross_entropy(logits.masked_fill(~self._masks.to(logits.device)[part], float("-inf")), targets)
        if len(self.active) == logits.shape[1]:
            return cross_entropy(logits, targets)
        return cross_entropy(logits[:, self.active.start : self.active.stop], targets - self.active.start)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:  # noqa: ARG002
        """The penalty enters here: once per optimizer step, also under accumulation; unscaled; before clipping."""
        self.continual.add_gradient()

    def configure_optimizers(self) -> Any:
        """The optimizer of the phase; the stream decides whether it is a new one."""
        return self.optimizer
