"""EWC inside an existing Lightning project."""

import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import lightning.pytorch as pl
from torch import nn

from cl_fisher.error import InputError
from cl_fisher.strategy.ewc import EWC
from cl_fisher.strategy.online_ewc import OnlineEWC


class EWCCallback(pl.Callback):
    """Elastic weight consolidation as a callback: one fit is one task, consolidated at its end on the training batches.

    Works with `lightning.pytorch` and with `pytorch_lightning`. Keep one callback for all tasks and give it to each
    task's Trainer (a new Trainer per task: a second fit on the same one takes no steps). The module's forward must map
    the inputs of a training batch, its first element, to logits [N, C]; targets are its second element.

    With several processes (DDP) each consolidates the batches that it was given, and all get the Fisher of them
    together; a sampler that repeats examples to fill up the last batches makes these count twice.

    The Fisher of each fit's first batch is estimated after its step and thrown away, so that targets that do not fit,
    or a model without a Fisher, are found then and not after the whole task.

    The penalty's gradient is added once per optimizer step, before clipping. The penalty is logged as `ewc_penalty`.
    The callback's state is part of Lightning's checkpoints. A checkpoint that is written during a fit holds the tasks
    before it; call `trainer.save_checkpoint` after the fit for one that holds this task too.

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
        self._n_batches = self._stepped = 0
        self._consolidated = False
        self.ewc = (OnlineEWC if online else EWC)(no_model_yet, strength, **options)

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:  # noqa: ARG002
        """Bind to the module: on a later fit the same network, or one with parameters of the same names."""
        self.ewc.model = pl_module
        if stage == "fit":  # a new task begins, unless a checkpoint, which is read next, says otherwise
            self._n_batches, self._consolidated = 0, False

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        """Take note of where the optimizer stands."""
        self._stepped = trainer.global_step

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        """Say at the first batch, not after the whole task, that it cannot be consolidated."""
        if self._n_batches == 0 and not (isinstance(batch, (tuple, list)) and len(batch) >= 2):
            raise InputError(f"EWCCallback: a batch must be (inputs, targets, ...), not {type(batch).__name__}")
        self._n_batches += 1

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:  # noqa: ARG002
        """Add the penalty's gradient to the parameters that this optimizer is about to move."""
        self.ewc.add_gradient(p for group in optimizer.param_groups for p in group["params"])

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        """See at the first batch whether there will be a Fisher; let a proximal penalty act; log the penalty."""
        if trainer.global_step != self._stepped:
            self._stepped = trainer.global_step
            for optimizer in trainer.optimizers:
                self.ewc.after_step(optimizer)
        if self._n_batches == 1:
            self.ewc.check([batch], classes=self.classes)
        if trainer.logger is not None and trainer._logger_connector.should_update_logs:
            pl_module.log("ewc_penalty", self.ewc.penalty())

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Consolidate the task on the batches that it was trained on, unless the fit was cut short."""
        if not trainer.interrupted:
            batches = self._batches(trainer, pl_module)
            self.ewc.consolidate(batches, classes=self.classes, distributed=trainer.world_size > 1)
            self._n_batches, self._consolidated = 0, True

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """See to fits in which nothing was left to train, of which Lightning says neither start nor end."""
        if self._n_batches:  # a checkpoint of the last epoch's end, written before the task was consolidated
            self.on_train_end(trainer, pl_module)
        elif not self._consolidated:
            warnings.warn(
                "EWCCallback: this fit took no step, so no task was consolidated; a new task needs a new Trainer, and "
                "no ckpt_path of a fit that has ended",
                stacklevel=2,
            )

    def _batches(self, trainer: Any, module: Any) -> "Batches":
        """One epoch of what training_step was given, as often as it is asked for; no more than was trained on."""
        return Batches(lambda: self._one_epoch(trainer, module))

    def _one_epoch(self, trainer: Any, module: Any) -> Iterator[Any]:
        """Through the same hooks as in training."""
        n = min(trainer.num_training_batches, self._n_batches)
        for batch in itertools.islice(trainer.train_dataloader, int(n)):
            converted = trainer.precision_plugin.convert_input(batch)
            converted = module._on_before_batch_transfer(converted, dataloader_idx=0)
            yield trainer.strategy.batch_to_device(converted, module.device, dataloader_idx=0)

    def state_dict(self) -> dict[str, Any]:
        """The penalty, and how far the task is; Lightning puts it into its checkpoints."""
        return self.ewc.state_dict() | {"n_batches": self._n_batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Undo `state_dict`."""
        self.ewc.load_state_dict(state_dict)
        self._n_batches = state_dict.get("n_batches", 0)


class Batches:
    """What can be read again and again."""

    def __init__(self, read: Callable[[], Iterator[Any]]) -> None:
        self._read = read

    def __iter__(self) -> Iterator[Any]:
        return self._read()
