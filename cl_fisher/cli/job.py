"""One job: a configuration becomes objects, and they run one task sequence. The only place that knows all parts."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from cl_fisher.benchmark.task import Scenario, TaskSequence
from cl_fisher.cli.engine import dataset_name
from cl_fisher.config import build
from cl_fisher.dataset.examples import DataSet
from cl_fisher.dataset.label_noise import label_noise
from cl_fisher.error import InputError
from cl_fisher.event import Listener, RunStarted
from cl_fisher.model.norm import group_norms_instead
from cl_fisher.reporting import reference
from cl_fisher.reporting.run_folder import RunFolder
from cl_fisher.reporting.terminal import Terminal
from cl_fisher.strategy.strategy import Strategy
from cl_fisher.training.batches import LoaderSettings
from cl_fisher.training.checkpoint import seed_everything
from cl_fisher.training.fit import quiet_lightning
from cl_fisher.training.ledger import forget_peak_memory
from cl_fisher.training.stream import Stream, StreamSettings

Part = TypeVar("Part")


def check(cfg: DictConfig) -> None:
    """Build everything that a run needs, data included, and take one look at it.

    Raises:
        InputError: what the user asked for cannot be done.
    """
    stream = assemble(cfg)
    optimizer = stream.new_optimizer()
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise InputError(
            f"optimizer={cfg.optimizer.get('_target_')} makes a {type(optimizer).__name__}, not an optimizer"
        )
    stream.check()
    trainer = stream.new_trainer(max_steps=1)
    if trainer.world_size > 1:
        raise InputError(
            f"trainer.devices={cfg.trainer.devices}: one sequence runs on one device; use several for several seeds at "
            "once, with -m and a launcher"
        )


def run(cfg: DictConfig, choices: dict[str, str], overrides: list[str], command: str) -> dict[str, Any]:
    """Run one task sequence into `cfg.output_dir`; returns its status and the value that a sweeper would optimise.

    The value is the average accuracy on the validation examples, or on the test set where there are none.
    """
    choices = choices | {"dataset": dataset_name(cfg, choices)}
    forget_peak_memory()
    folder = Path(cfg.output_dir)
    listeners = [RunFolder(folder), build(cfg.logger, directory=folder), Terminal(cfg.verbosity, cell=_cell(folder))]
    names = {group: choices[group] for group in ("strategy", "benchmark", "dataset", "scenario")}
    about = {
        "seed": cfg.seed,
        "n_tasks": cfg.n_tasks,
        **names,
        "label": choices["strategy"],
        "overrides": overrides,
        "command": command,
    }
    stream = assemble(cfg, listeners, folder, about)
    resolved = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(resolved, dict)
    config = {str(key): value for key, value in resolved.items()}
    kept = None if cfg.reference_dir is None else Path(str(cfg.reference_dir)).expanduser()
    if kept is not None:
        stream.ledger.references = reference.load(kept, config, stream.data)
    summary = stream.run(
        RunStarted(cfg.n_tasks, len(stream.phases), config, choices, tuple(overrides), command, stream.done)
    )
    if kept is not None:
        reference.save(kept, config, stream.data, summary["accuracy"])
    judged = summary["validation"] or summary
    return {"status": summary["status"], "value": judged["avg_accuracy"]}


def assemble(
    cfg: DictConfig,
    listeners: list[Listener] | None = None,
    directory: Path | None = None,
    about: dict[str, Any] | None = None,
) -> Stream:
    """A stream from a configuration; the same configuration always makes the same one."""
    if "" not in sys.path:  # components of one's own may lie in the working folder, behind what is installed
        sys.path.append("")
    quiet_lightning()
    sequence = _made(
        cfg,
        "benchmark",
        TaskSequence,
        **_data(cfg),
        scenario=Scenario(**cfg.scenario),
        n_tasks=cfg.n_tasks,
        seed=cfg.seed,
        validation_fraction=cfg.validation_fraction,
    )
    seed_everything(cfg.seed)
    model = _made(cfg, "model", nn.Module, input_shape=sequence.input_shape, n_outputs=sequence.n_outputs)
    if cfg.batchnorm == "group_norm":
        group_norms_instead(model)
    settings = StreamSettings(
        seed=cfg.seed,
        epochs=cfg.epochs,
        iterations=cfg.iterations,
        batch_size=cfg.batch_size,
        optimizer_state=cfg.optimizer_state,
        batchnorm=cfg.batchnorm,
        fisher_samples=cfg.fisher.samples if cfg.fisher.sampling == "uniform" else None,
        fisher_shuffled=cfg.fisher.until is not None,
        consolidate_every=cfg.consolidate_every,
        eval_every=cfg.eval_every,
        eval_samples=cfg.eval_samples,
        log_every=cfg.log_every,
        checkpoint=cfg.checkpoint,
        loader=LoaderSettings(**cfg.loader),
    )
    return Stream(
        sequence,
        model,
        _made(cfg, "strategy", Strategy, model=model),
        _maker(cfg, "optimizer"),
        _maker(cfg, "trainer"),
        settings,
        listeners or [],
        directory,
        about,
    )


def _made(cfg: DictConfig, group: str, kind: type[Part], **kwargs: Any) -> Part:
    """What a group's choice makes; InputError if it is of another kind than the group's."""
    made = build(cfg[group], **kwargs)
    if not isinstance(made, kind):
        raise InputError(f"{group}._target_={cfg[group]._target_} makes a {type(made).__name__}, not a {kind.__name__}")
    return made


def _maker(cfg: DictConfig, group: str) -> Callable[..., Any]:
    """What makes a group's choice once the rest is known."""
    if not cfg[group].get("_partial_"):
        raise InputError(
            f"{group}: `_partial_: true` is missing beside `_target_: {cfg[group].get('_target_')}`, for it is made "
            "when the network is there"
        )
    return cast("Callable[..., Any]", build(cfg[group]))


def _data(cfg: DictConfig) -> dict[str, Any]:
    """The data set that a benchmark takes; nothing if it has one for each task."""
    if "datasets" not in cfg.benchmark:
        return {"dataset": label_noise(_made(cfg, "dataset", DataSet), cfg.label_noise, cfg.seed)}
    if cfg.label_noise > 0:
        raise InputError("label_noise is for a benchmark of one data set, not for benchmark=sequence")
    return {}


def _cell(folder: Path) -> str:
    """The folder's name if it is a cell of a multirun, else nothing."""
    return folder.name if (folder.parent / "multirun.json").exists() else ""
