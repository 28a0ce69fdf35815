"""The Lightning side of one network on a sequence of tasks."""

from collections.abc import Collection, Iterable
from typing import Any, Self

import lightning.pytorch as pl
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from cl_fisher.benchmark.rule import OldRows
from cl_fisher.model.norm import batch_norms
from cl_fisher.strategy.batch import Batch, Heads, masks, nll
from cl_fisher.strategy.strategy import Strategy
from cl_fisher.training.rows import OutputRows


class ContinualModule(pl.LightningModule):
    """A network, what keeps it from forgetting, and the output units that compete in the current phase."""

    def __init__(self, model: nn.Module, strategy: Strategy, n_outputs: int, old_rows: OldRows = "penalised") -> None:
        super().__init__()
        self.model = model
        # Lightning owns the name `strategy` for its own devices
        self.continual = strategy
        self.n_outputs = n_outputs
        self.rows = OutputRows(model, n_outputs, old_rows)
        self.optimizer: Optimizer | None = None
        self.active: range | None = None
        self.extra: Tensor | int = 0
        """Examples that steps of the phase were computed on beyond its plain stream: replayed, or of other tasks."""
        self._masks: Tensor | None = None
        self._held = False
        self._plain: Tensor | None = None

    def begin_phase(
        self,
        heads: Heads,
        present: Collection[int],
        optimizer: Optimizer,
        old_rows: Iterable[int] = (),
        plain: Collection[int] | None = None,
    ) -> None:
        """Say which outputs compete for the examples of each task, which tasks are present, and which optimizer steps.

        `old_rows`: outputs that stand for classes of earlier tasks only.
        `plain`: the tasks whose examples a plain stream would hold; those present if None.
        """
        self.optimizer = optimizer
        competing = [heads[number - 1] for number in present]
        self.active = competing[0] if len(set(competing)) == 1 else None
        self._masks = masks(heads, self.n_outputs)
        self.rows.begin(old_rows)
        self.extra, self._plain = 0, None if plain is None or set(present) <= set(plain) else torch.tensor(list(plain))

    def hold_statistics(self, held: bool) -> None:
        """Say whether batch norm uses its running statistics, and leaves them alone, in training too."""
        if held != self._held:
            self._held = held
            self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Training or evaluation mode; held batch norm layers stay in the latter."""
        super().train(mode)
        if self._held:
            for norm in batch_norms(self.model):
                norm.eval()
        return self

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits of all outputs."""
        return self.model(inputs)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:  # noqa: ARG002
        """Mean negative log-likelihood over the competing outputs, or what the strategy makes of it."""
        mixed = self.continual.mix(batch)
        self._count(mixed, mixed is batch)
        logits = self.model(mixed.inputs)
        return self.continual.loss(mixed, logits, self._nll(logits, mixed, mixed is batch))

    @torch.no_grad()
    def _count(self, batch: Batch, pure: bool) -> None:
        if pure and self._plain is None:
            return
        added = batch.position < 0
        if self._plain is not None:
            added = added | ~torch.isin(batch.task, self._plain.to(batch.task.device))
        self.extra = self.extra + added.sum()  # stays on its device: no step waits for it

    def _nll(self, logits: Tensor, batch: Batch, pure: bool) -> Tensor:
        if self.active is None or not pure:
            assert self._masks is not None
            return nll(logits, batch.targets, batch.task, self._masks).mean()
        if len(self.active) == logits.shape[1]:
            return cross_entropy(logits, batch.targets)
        return cross_entropy(logits[:, self.active.start : self.active.stop], batch.targets - self.active.start)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:  # noqa: ARG002
        """The penalty enters here: once per optimizer step, also under accumulation; unscaled; before clipping."""
        with self.rows.spared("grad"):
            self.continual.add_gradient()

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """Lightning's, and then what is to happen to the weights after it."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        with self.rows.spared("weights"):
            self.continual.after_step(optimizer.optimizer if isinstance(optimizer, LightningOptimizer) else optimizer)
        self.rows.restore()

    def configure_optimizers(self) -> Any:
        """The optimizer of the phase; the stream decides whether it is a new one."""
        return self.optimizer
