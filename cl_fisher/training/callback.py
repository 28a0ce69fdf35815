"""EWC inside an existing Lightning project."""

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
from torch import nn

from cl_fisher.strategy.ewc import EWC
from cl_fisher.strategy.online_ewc import OnlineEWC


class EWCCallback(pl.Callback):
    """Elastic weight consolidation as a callback: one fit is one task, consolidated at its end on the training batches.

    Works with `lightning.pytorch` and with `pytorch_lightning`. Keep one callback for all tasks and give it to each
    task's Trainer (a new Trainer per task: a second fit on the same one takes no steps). The module's forward must map
    the inputs of a training batch, its first element, to logits [N, C]; targets are its second element.

    The penalty's gradient is added once per optimizer step, before clipping. The penalty is logged as `ewc_penalty`.
    The callback's state is part of Lightning's checkpoints.

    Args:
        strength: lambda, as in `EWC`.
        online: one penalty at the last optimum (`OnlineEWC`) instead of one per task.
        classes: the active outputs of the task about to be trained; all if None. May be set anew before each fit.
        options: all other arguments of `EWC` or `OnlineEWC`, such as estimator="empirical" or gamma=0.9.
    """

    def __init__(
        self, strength: float = 100.0, online: bool = False, classes: Sequence[int] | None = None, **options: Any
    ) -> None:
        self.classes = classes
        no_model_yet = nn.Identity()
        self.ewc = (OnlineEWC if online else EWC)(no_model_yet, strength, **options)

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:  # noqa: ARG002
        """Bind to the module: on a later fit the same network, or one with parameters of the same names."""
        self.ewc.model = pl_module

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:  # noqa: ARG002
        """Add the penalty's gradient."""
        self.ewc.add_gradient()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        """Log the penalty as often as the Trainer logs."""
        if trainer.logger is not None and (trainer.global_step + 1) % trainer.log_every_n_steps == 0:
            pl_module.log("ewc_penalty", self.ewc.penalty())

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Consolidate the task on its training batches, unless the fit was cut short."""
        if trainer.interrupted:
            return
        batches = (pl_module.transfer_batch_to_device(b, pl_module.device, 0) for b in trainer.train_dataloader)
        self.ewc.consolidate(batches, classes=self.classes)

    def state_dict(self) -> dict[str, Any]:
        """The penalty; Lightning puts it into its checkpoints."""
        return self.ewc.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Undo `state_dict`."""
        self.ewc.load_state_dict(state_dict)
