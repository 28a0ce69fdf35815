"""The task loop: a new Trainer for each task, consolidation after it, evaluation on all tasks."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import nn
from torch.optim import Optimizer

from cl_fisher.benchmark.fingerprint import fingerprint
from cl_fisher.benchmark.task import TaskSequence
from cl_fisher.error import InputError, RunError
from cl_fisher.event import (
    Evaluated,
    Event,
    Listener,
    Probed,
    RunEnded,
    RunStarted,
    TaskEnded,
    TaskStarted,
)
from cl_fisher.model.norm import BatchNorm
from cl_fisher.strategy.proximal import check_optimizer
from cl_fisher.strategy.strategy import Strategy
from cl_fisher.training import checkpoint
from cl_fisher.training.batches import LoaderSettings, training_batches
from cl_fisher.training.checkpoint import Keep
from cl_fisher.training.consolidation import Consolidation
from cl_fisher.training.datamodule import PhaseDataModule
from cl_fisher.training.evaluate import accuracies
from cl_fisher.training.fit import fit
from cl_fisher.training.ledger import Ledger, peak_memory_bytes, versions
from cl_fisher.training.module import ContinualModule
from cl_fisher.training.outputs import check_outputs
from cl_fisher.training.phase import Phase, heads, phases_of
from cl_fisher.training.probe import Probe, begun
from cl_fisher.training.ragged import check_single_example, single_examples_explained
from cl_fisher.training.regions import regions
from cl_fisher.training.task_free import TaskFree
from cl_fisher.training.watch import Watch


@dataclass(frozen=True)
class StreamSettings:
    """How each task is trained. `iterations`, in optimizer steps per task, win over `epochs`."""

    seed: int = 0
    epochs: int | None = 10
    iterations: int | None = None
    batch_size: int = 128
    optimizer_state: Literal["keep", "reset"] = "keep"
    batchnorm: BatchNorm = "as_is"
    """Running statistics; "group_norm" asks nothing of the stream: the model has none."""
    fisher_samples: int | None = None
    """Examples that a Fisher is to be estimated from, drawn uniformly from a task's; None: all."""
    fisher_shuffled: bool = False
    """Whether all are handed over in random order, which an estimate that may stop early needs."""
    consolidate_every: int | None = None
    """Optimizer steps between consolidations of what was seen since; None: at task ends, of the task."""
    eval_every: int | None = None
    """Optimizer steps between evaluations of all tasks begun, within each task; None: no continual evaluation."""
    eval_samples: int | None = None
    """Test examples of each task that these evaluations look at; None: all."""
    log_every: int = 10
    checkpoint: Keep = "last"
    loader: LoaderSettings = field(default_factory=LoaderSettings)


class Stream:
    """Trains a model on a sequence of tasks and tells its listeners. All state is in `state_dict`.

    Args:
        sequence: the tasks.
        model: the network; outputs [N, sequence.n_outputs].
        strategy: made for this model.
        optimizer: makes an optimizer from parameters.
        trainer: makes a Lightning Trainer from keyword arguments (max_steps, callbacks, ...).
        settings: how to train.
        listeners: who is told.
        directory: where checkpoints go; None: nowhere.
        about: constant entries of the summary (names, overrides, command, ...).
    """

    def __init__(
        self,
        sequence: TaskSequence,
        model: nn.Module,
        strategy: Strategy,
        optimizer: Callable[[Any], Optimizer],
        trainer: Callable[..., pl.Trainer],
        settings: StreamSettings,
        listeners: Sequence[Listener] = (),
        directory: Path | None = None,
        about: dict[str, Any] | None = None,
    ) -> None:
        self.sequence, self.model, self.strategy, self.settings = sequence, model, strategy, settings
        self.module = ContinualModule(model, strategy, sequence.n_outputs, sequence.scenario.old_rows)
        self.phases = phases_of(sequence, strategy, settings.seed)
        self.ledger = Ledger(joint=strategy.trains_on == "all")
        self.consolidation = Consolidation(
            sequence,
            model,
            strategy,
            self.ledger,
            self.send,
            settings.seed,
            settings.fisher_samples,
            settings.fisher_shuffled,
        )
        self.done = 0
        self.global_step = 0
        self._make_optimizer, self._make_trainer = optimizer, trainer
        self._optimizer: Optimizer | None = None
        self._costs: dict[str, float] = {}
        self._listeners, self._directory, self._about = list(listeners), directory, about or {}
        self._started = datetime.now().astimezone().isoformat(timespec="seconds")
        self._versions = versions()

    @cached_property
    def data(self) -> str:
        """Tells the data of this sequence from others; a look before training does without."""
        return fingerprint(self.sequence)

    def run(self, started: RunStarted) -> dict[str, Any]:
        """Train what is left of the sequence; returns the final summary. `started` is handed to the listeners first.

        Raises:
            RunError: the run cannot go on; listeners have been told and everything up to then is kept.
        """
        self.send(started)
        try:
            if self.done == 0:
                with self.ledger.clock("total"):
                    self._evaluate(after_task=0, seen=0)
            for phase in self.phases[self.done :]:
                with self.ledger.clock("total"), self._accounted(phase):  # each task's summary holds what it took
                    self._train_and_evaluate(phase)
                self._keep(phase)
        except BaseException as error:
            interrupted = isinstance(error, (KeyboardInterrupt, SystemExit))
            reason = "interrupted" if interrupted else str(error) or type(error).__name__
            status: Literal["failed", "interrupted"] = "interrupted" if interrupted else "failed"
            self.send(RunEnded(status, self.global_step, self.summary(status, reason), reason))
            raise
        summary = self.summary("finished")
        self.send(RunEnded("finished", self.global_step, summary))
        return summary

    def _train_and_evaluate(self, phase: Phase) -> None:
        with self.ledger.clock("train"):
            watch, probe = self.train(phase)
        if phase.number == 2 and not self._task_free and self._should_penalise() and watch.largest_penalty == 0:
            raise RunError(
                "the penalty was 0 at every step of task 2: nothing protects task 1, or the weights did not move "
                "(a learning rate of 0?)"
            )
        if not self._task_free:
            self.consolidation.end_task(phase, self.global_step)
        if probe is not None:
            probe.end()
        self._evaluate(after_task=phase.seen, seen=phase.seen)
        self.done = phase.number

    @contextmanager
    def _accounted(self, phase: Phase) -> Iterator[None]:
        """What the phase takes goes into `_costs`. Extra passes: examples beyond the plain stream, per own example."""
        before, read = dict(self.ledger.seconds), self.consolidation.n_read
        yield
        own = sum(len(phase.data[number]) for number in self._plain(phase))
        extra = (int(self.module.extra) + self.consolidation.n_read - read) / own
        self.ledger.extra_passes += extra
        seconds = {f"seconds_{key}": self.ledger.seconds[key] - before[key] for key in ("train", "fisher", "eval")}
        sizes = {"peak_memory_bytes": peak_memory_bytes(), "state_bytes": self.strategy.state_bytes}
        self._costs = seconds | sizes | {"extra_passes": extra}

    def _plain(self, phase: Phase) -> list[int]:
        """The tasks whose examples fine-tuning would train on in this phase."""
        return [phase.seen] if self.strategy.trains_on == "seen" else list(phase.data)

    def _keep(self, phase: Phase) -> None:
        self.send(TaskEnded(phase.number, self.global_step, self.summary("running"), self._costs))
        if self._directory is not None and self.settings.checkpoint != "none":  # then state need not be storable
            checkpoint.save(self._directory / "checkpoints", phase.number, self.state_dict(), self.settings.checkpoint)

    def train(self, phase: Phase) -> tuple[Watch, Probe | None]:
        """Train one phase; what was seen meanwhile is returned, and what evaluates its end if anything does."""
        settings = self.settings
        competing = heads(self.sequence, phase)
        self.strategy.begin_task(phase.seen, competing)
        data = self.strategy.training_data(phase.data)
        batches = training_batches(data, settings.batch_size, settings.seed, phase.number, settings.loader)
        if self._optimizer is None or settings.optimizer_state == "reset" or self.strategy.starts_anew:
            self._optimizer = self.new_optimizer()
        self.module.begin_phase(competing, data, self._optimizer, self._old_units(phase), self._plain(phase))
        first = phase.number == 1 or self.strategy.starts_anew
        self.module.hold_statistics(settings.batchnorm == "frozen" and not first)
        trainer, steps, epochs = self._trainer(phase, len(batches))
        self.send(TaskStarted(phase.number, sum(map(len, data.values())), steps, epochs))
        watch = Watch(phase.number, steps, self.global_step, settings.log_every, self.send)
        callbacks: list[pl.Callback] = [watch]
        if settings.consolidate_every is not None:
            alike = self.consolidation.alike(phase, data)
            take = partial(self.consolidation.take, phase, alike)
            callbacks.append(TaskFree(settings.consolidate_every, self.global_step, alike, take))
        probe = None
        if settings.eval_every is not None:
            few = begun(self.sequence, phase.seen, settings.eval_samples, settings.seed)
            probe = Probe(settings.eval_every, steps, partial(self._probe, phase, few, self.global_step))
            callbacks.append(probe)
        trainer.callbacks.extend(callbacks)  # type: ignore[attr-defined] # set by its connector
        with single_examples_explained(phase):
            fit(trainer, self.module, PhaseDataModule(batches))
        self.global_step += trainer.global_step
        if trainer.global_step < steps:
            raise RunError(
                f"task {phase.number}: {trainer.global_step} of {steps} steps taken; the Trainer stopped early"
            )
        watch.check_weights(self.module)
        return watch, probe

    def _old_units(self, phase: Phase) -> set[int]:
        if self.strategy.trains_on != "task":
            return set()
        *earlier, own = self.sequence.tasks[: phase.seen]
        return {unit for task in earlier for unit in task.units} - set(own.units)

    @property
    def _task_free(self) -> bool:
        return self.settings.consolidate_every is not None

    def _trainer(self, phase: Phase, batches_per_epoch: int) -> tuple[pl.Trainer, int, int]:
        """A Trainer, the optimizer steps that it will take and the epochs that it will begin."""
        limit: dict[str, int | None] = {"max_epochs": self.settings.epochs}
        if self.settings.iterations is not None:
            limit = {"max_epochs": -1, "max_steps": self._length(phase, batches_per_epoch, 1)[0]}
        trainer = self.new_trainer(**limit)
        return trainer, *self._length(phase, batches_per_epoch, trainer.accumulate_grad_batches)

    def _length(self, phase: Phase, batches_per_epoch: int, accumulated: int) -> tuple[int, int]:
        """The optimizer steps that a phase takes, and the epochs that it begins."""
        iterations, epochs = self.settings.iterations, self.settings.epochs
        share = len(phase.data) if self.strategy.trains_on == "all" else 1  # joint gets what all tasks get together
        per_epoch = -(-batches_per_epoch // accumulated)
        if iterations is not None:
            return iterations * share, -(-iterations * share // per_epoch)
        assert epochs is not None
        return per_epoch * epochs, epochs

    def new_optimizer(self) -> Optimizer:
        """An optimizer of the trainable parameters, with nothing remembered; InputError if its options are wrong."""
        with options_of("optimizer"):
            return self._make_optimizer([p for p in self.model.parameters() if p.requires_grad])

    def new_trainer(self, **limit: Any) -> pl.Trainer:
        """A Trainer without what the stream does itself; InputError if its options are wrong."""
        with options_of("trainer"):
            return self._make_trainer(
                **limit,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                num_sanity_val_steps=0,
                limit_val_batches=0,
            )

    def _should_penalise(self) -> bool:
        strategy = self.strategy  # a proximal step may hold the weights so well that not a bit of them moves
        return strategy.strength > 0 and strategy.step == "gradient" and strategy.curvature_bound() > 0

    def check(self) -> None:
        """Raise `InputError` if the strategy could not take note of the first task, tried on a few examples.

        Or if it is to act on the weights after the optimizer and does not know this one, or if the model does not fit
        the tasks, or if a batch of one example will come that it cannot train on.
        """
        trainer = self.new_trainer(max_steps=1)
        dtype = torch.float32 if trainer.precision == "32-true" else next(self.model.parameters()).dtype
        check_outputs(self.model, self.phases, self.sequence.n_outputs, dtype)
        self._check_single_example(trainer.accumulate_grad_batches, dtype)
        if self.strategy.step == "proximal":
            check_optimizer(self.new_optimizer())
        self._check_clock(trainer.accumulate_grad_batches)
        fisher = self.consolidation.rehearse(self.phases[0])
        if fisher is not None and self.settings.checkpoint != "none":
            try:
                fisher.tensors()
            except InputError as error:
                raise InputError(f"{error}; checkpoint=none runs without storing anything") from error

    def _check_single_example(self, accumulated: int, dtype: torch.dtype) -> None:
        if self.strategy.chooses_data:
            return  # nobody knows yet how many examples it will be
        held = self.settings.batchnorm == "frozen" and not self.strategy.starts_anew

        def ends_an_epoch(phase: Phase, batches: int) -> bool:
            return self._length(phase, batches, accumulated)[0] >= -(-batches // accumulated)

        phases = self.phases[:1] if held else self.phases
        check_single_example(self.model, phases, self.settings.batch_size, ends_an_epoch, dtype)

    def _check_clock(self, accumulated: int) -> None:
        every = self.settings.consolidate_every
        if every is None:
            return
        sizes = [sum(map(len, phase.data.values())) for phase in self.phases]
        batches = [-(-size // self.settings.batch_size) for size in sizes]
        steps = sum(self._length(p, n, accumulated)[0] for p, n in zip(self.phases, batches, strict=True))
        if every > steps:
            raise InputError(
                f"consolidate_every={every}: the whole sequence takes {steps} optimizer steps, so nothing would be "
                "consolidated; take a smaller number, or null for task ends"
            )

    def _evaluate(self, after_task: int, seen: int) -> None:
        for split in ("test", "validation"):
            counts = tuple(len(getattr(task, split)) for task in self.sequence.tasks)
            if not any(counts):
                continue
            with self.ledger.clock("eval"):
                row = accuracies(self.model, self.strategy, self.sequence, split, seen)
            event = Evaluated(after_task, self.global_step, split, tuple(row), counts)
            self.ledger.note(event)
            self.send(event)
        with self.ledger.clock("eval"):
            for drawn in regions(self.model, self.strategy, self.sequence, after_task, seen):
                self.send(drawn)

    def _probe(self, phase: Phase, sequence: TaskSequence, first_global_step: int, step: int) -> None:
        with self.ledger.clock("eval"):
            row = accuracies(self.model, self.strategy, sequence, "test", phase.seen)
        counts = tuple(len(task.test) for task in sequence.tasks)
        event = Probed(phase.number, step, first_global_step + step, tuple(row), counts)
        self.ledger.note(event)
        self.send(event)

    def send(self, event: Event) -> None:
        """Tell every listener."""
        for listener in self._listeners:
            listener.handle(event)

    def summary(self, status: str, error: str = "") -> dict[str, Any]:
        """The content of metrics.json."""
        return {
            "final": status == "finished",
            "status": status,
            "error": error,
            **self._about,
            "data": self.data,
            **self.ledger.metrics("test"),
            "validation": self.ledger.metrics("validation") if self.ledger.rows["validation"] else None,
            **self.ledger.during(),
            **self.ledger.against_references(),
            "n_parameters": sum(p.numel() for p in self.model.parameters()),
            "global_step": self.global_step,
            "seconds": {key: round(value, 3) for key, value in self.ledger.seconds.items()},
            "peak_memory_bytes": peak_memory_bytes(),
            "state_bytes": self.strategy.state_bytes,
            "extra_passes": self.ledger.extra_passes,
            "started": self._started,
            "versions": self._versions,
        }

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands, in tensors and plain containers."""
        return {
            "done": self.done,
            "global_step": self.global_step,
            "started": self._started,
            "model": self.model.state_dict(),
            "optimizer": None if self._optimizer is None else self._optimizer.state_dict(),
            "strategy": self.strategy.state_dict(),
            "ledger": self.ledger.state_dict(),
            "random": checkpoint.random_state(),
            "listeners": [listener.state_dict() for listener in self._listeners],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to where `state_dict` was taken."""
        self.done, self.global_step, self._started = state["done"], state["global_step"], state["started"]
        _take_types(self.model, state["model"])
        self.model.load_state_dict(state["model"])
        if state["optimizer"] is not None:
            self._optimizer = self.new_optimizer()
            self._optimizer.load_state_dict(state["optimizer"])
        self.strategy.load_state_dict(state["strategy"])
        self.ledger.load_state_dict(state["ledger"])
        checkpoint.set_random_state(state["random"])
        for listener, of_listener in zip(self._listeners, state["listeners"], strict=True):
            listener.load_state_dict(of_listener)


def _take_types(model: nn.Module, state: dict[str, Any]) -> None:
    """Bring a model to the types that a Trainer of its precision left it in; an optimizer's state follows them."""
    for name, t in [*model.named_parameters(), *model.named_buffers()]:
        if name in state:
            t.data = t.data.to(state[name].dtype)


@contextmanager
def options_of(group: str) -> Iterator[None]:
    """Turn what a constructor of somebody else's says about its options into the user's error."""
    try:
        yield
    except (TypeError, ValueError, ImportError, MisconfigurationException) as error:
        raise InputError(f"{group}: {str(error).strip().splitlines()[0]}") from error
