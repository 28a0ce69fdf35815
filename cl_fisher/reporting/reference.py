"""Accuracies of reference runs (cumulative, joint, independent), kept for later runs that differ in nothing else."""

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cl_fisher.metric.reference import References, summary
from cl_fisher.reporting.read import Run, Source, lookup
from cl_fisher.reporting.run_folder import write_atomically

KINDS = ("cumulative", "joint", "independent")
BESIDE = (
    "strategy", "fisher", "consolidate_every", "eval_every", "eval_samples", "log_every", "checkpoint", "verbosity",
    "logger", "loader", "data_dir", "reference_dir", "output_dir",
)  # fmt: skip
"""Root keys that no reference depends on. A key that is not known here counts."""


def kind(config: Mapping[str, Any]) -> str | None:
    """Which reference a run with this configuration is, by the class of its strategy; None: none."""
    name = str(lookup(config, "strategy._target_")).rpartition(".")[2].lower()
    return name if name in KINDS else None


def key(config: Mapping[str, Any], data: str | None) -> str:
    """Equal for configurations that differ only in the strategy, and in what cannot change a reference.

    `data`: the fingerprint of the task sequence, for a path does not say what lies there; None if it is not known.
    """
    matters = {name: value for name, value in config.items() if name not in BESIDE}
    if matters.get("iterations") is not None:
        del matters["epochs"]
    text = json.dumps(matters, sort_keys=True, default=str)
    return hashlib.sha256(f"{version('cl_fisher')} {data} {text}".encode()).hexdigest()[:32]


def save(folder: Path, config: Mapping[str, Any], data: str, accuracy: Sequence[Sequence[float | None]]) -> None:
    """Keep the accuracy matrix of a run that has finished, if it is a reference; a failure costs a warning only."""
    name = kind(config)
    if name is None:
        return
    content = json.dumps({"kind": name, "accuracy": accuracy, "config": config}, default=str)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / f"{key(config, data)}_{name}.json", content + "\n")
    except OSError as error:
        warnings.warn(f"reference_dir={folder}: no reference was kept ({error.strerror or error})", stacklevel=2)


def load(folder: Path, config: Mapping[str, Any], data: str) -> References:
    """The references for a run with this configuration and data, as far as there are any.

    A damaged file costs a warning.
    """
    found = {}
    for name in KINDS:
        path = folder / f"{key(config, data)}_{name}.json"
        try:
            if path.is_file():
                found[name] = _matrix(json.loads(path.read_text(encoding="utf-8")), name, config["n_tasks"])
        except (OSError, ValueError) as error:
            warnings.warn(f"{path} is no reference and is ignored: {error}", stacklevel=2)
    return found


def completed(sources: Sequence[Source]) -> list[Source]:
    """The same, with the metrics against references that lie among the runs themselves, whichever ran first."""
    found: dict[str, dict[str, Any]] = {}
    for run in (run for source in sources for run in source.runs if run.status == "finished"):
        name = kind(run.config)
        if name is not None:
            found.setdefault(_key(run), {})[name] = run.metrics["accuracy"]
    return [replace(s, runs=tuple(_completed(run, found) for run in s.runs)) for s in sources] if found else [*sources]


def _completed(run: Run, found: Mapping[str, References]) -> Run:
    references = found.get(_key(run)) if run.metrics else None
    if not references:
        return run
    metrics = summary(run.metrics["accuracy"], references, run.is_joint)
    return replace(run, metrics=run.metrics | {k: value for k, value in metrics.items() if value is not None})


def _key(run: Run) -> str:
    return key(run.config, run.metrics.get("data"))


def _matrix(content: Any, name: str, n_tasks: int) -> list[list[float | None]]:
    rows = content.get("accuracy") if isinstance(content, dict) else None
    if not isinstance(rows, list) or len(rows) != (1 if name == "joint" else n_tasks):
        raise ValueError(f"it holds no accuracies after each of {n_tasks} tasks")
    for row in rows:
        if not (isinstance(row, list) and len(row) == n_tasks and all(isinstance(v, int | float | None) for v in row)):
            raise ValueError(f"it holds no accuracies of {n_tasks} tasks")
    return rows
