"""EWC inside an existing Lightning project."""

from typing import Any, Literal

import lightning.pytorch as pl

from cl_fisher.bounds import Count, Index, NonNegative, UnitInterval, checked
from cl_fisher.error import InputError
from cl_fisher.fisher.estimator.estimator import Estimator
from cl_fisher.fisher.likelihood import Likelihood
from cl_fisher.fisher.structure.structure import Structure
from cl_fisher.strategy.ewc import EWC
from cl_fisher.strategy.online_ewc import OnlineEWC


class EWCCallback(pl.Callback):
    """Elastic weight consolidation as a callback: one fit is one task, consolidated at its end on the training batches.

    Works with `lightning.pytorch` and with `pytorch_lightning`. Keep one callback for all tasks and give it to each
    task's Trainer (a new Trainer per task: a second fit on the same one takes no steps). The module's forward must map
    the inputs of a training batch, its first element, to logits [N, C]; targets are its second element.

    The penalty's gradient is added once per optimizer step, before clipping. `penalty` is logged as `ewc_penalty`.

    Args:
        strength: lambda, as in `EWC`.
        online: one penalty at the last optimum (`OnlineEWC`) instead of one per task.
        gamma: of `OnlineEWC`.
        classes: the active outputs of the task about to be trained; all if None. May be set anew before each fit.
        estimator: as in `EWC`.
        structure: as in `EWC`.
        samples: as in `EWC`.
        sampling: as in `EWC`.
        seed: as in `EWC`.
        likelihood: as in `EWC`.
    """

    @checked
    def __init__(
        self,
        strength: NonNegative = 100.0,
        online: bool = False,
        gamma: UnitInterval = 1.0,
        classes: list[int] | None = None,
        estimator: str | Estimator = "exact",
        structure: str | Structure = "diagonal",
        samples: Count | None = None,
        sampling: Literal["uniform"] = "uniform",
        seed: Index = 0,
        likelihood: str | Likelihood = "categorical",
    ) -> None:
        self.classes = classes
        self._online, self._gamma = online, gamma
        self._options: dict[str, Any] = {
            "strength": strength,
            "estimator": estimator,
            "structure": structure,
            "samples": samples,
            "sampling": sampling,
            "seed": seed,
            "likelihood": likelihood,
        }
        self._ewc: EWC | OnlineEWC | None = None
        self._restored: dict[str, Any] | None = None

    @property
    def ewc(self) -> EWC | OnlineEWC:
        """What does the work; exists from the first fit on."""
        if self._ewc is None:
            raise InputError("EWCCallback has no EWC yet: it is made for the module of the first fit")
        return self._ewc

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:  # noqa: ARG002
        """Bind to the module; on a later fit it must be the same network, or one with parameters of the same names."""
        if stage != "fit":
            return
        if self._ewc is None:
            extra: dict[str, Any] = {"gamma": self._gamma} if self._online else {}
            self._ewc = (OnlineEWC if self._online else EWC)(pl_module, **self._options, **extra)
        self._ewc.model = pl_module
        if self._restored is not None:
            self._ewc.load_state_dict(self._restored)
            self._restored = None

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
        return {} if self._ewc is None else self._ewc.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Taken over now, or at the next fit if the module is not there yet."""
        if self._ewc is not None and state_dict:
            self._ewc.load_state_dict(state_dict)
        else:
            self._restored = state_dict or None
