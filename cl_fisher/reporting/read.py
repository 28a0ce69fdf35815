"""Reads run folders and multirun folders, however far their runs came."""

import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from cl_fisher.error import InputError


@dataclass(frozen=True)
class Run:
    """One run folder. Files that are not there yet are empty frames and empty dictionaries."""

    folder: Path
    overrides: tuple[str, ...]
    """What was typed for this run, such as ("strategy=ewc", "seed=0")."""
    metrics: dict[str, Any]
    """metrics.json; empty if the run ended before it was written."""

    @property
    def status(self) -> str:
        """Finished, failed, interrupted, running (or killed), or missing where there is no metrics.json."""
        if not self.metrics:
            return "missing"
        return str(self.metrics.get("status") or ("finished" if self.metrics.get("final") else "running"))

    @property
    def error(self) -> str:
        """Why the run failed; empty otherwise."""
        return str(self.metrics.get("error") or "")

    @property
    def settings(self) -> dict[str, str]:
        """The overrides as key and value."""
        pairs = (override.lstrip("+").partition("=") for override in self.overrides)
        return {key: value for key, _, value in pairs}

    @property
    def seed(self) -> str:
        """The seed as text; empty if it is not known."""
        return str(self.metrics.get("seed", self.settings.get("seed", "")))

    @property
    def strategy(self) -> str:
        """The strategy's name; empty if it is not known."""
        return str(self.metrics.get("strategy") or self.settings.get("strategy", ""))

    def number(self, key: str) -> float | None:
        """A number of metrics.json by its dotted key, such as "seconds.total"; None where it is undefined."""
        value = lookup(self.metrics, key)
        known = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        return float(value) if known else None

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration."""
        try:
            config = yaml.safe_load(self.config_text)
        except yaml.YAMLError as error:
            raise InputError(
                f"{self.folder / 'config.yaml'} cannot be read as YAML: {' '.join(str(error).split())}"
            ) from error
        return config if isinstance(config, dict) else {}

    @cached_property
    def config_text(self) -> str:
        """The resolved configuration as it was written."""
        path = self.folder / "config.yaml"
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    @cached_property
    def steps(self) -> pd.DataFrame:
        """Columns task, epoch, step, global_step, loss, penalty."""
        return _frame(
            self.folder / "steps.csv", ["task", "global_step", "loss", "penalty"], unique=["task", "global_step"]
        )

    @cached_property
    def accuracy(self) -> pd.DataFrame:
        """Test split: columns after_task (0 = at initialisation), task, accuracy (NaN where undefined), n."""
        return _frame(self.folder / "accuracy.csv", ["after_task", "task", "accuracy"], unique=["after_task", "task"])

    @cached_property
    def fisher(self) -> pd.DataFrame:
        """One row per task whose Fisher information was estimated."""
        return _frame(self.folder / "fisher.csv", ["task"], unique=["task"])

    def matrix(self, split: str = "test") -> dict[int, list[float | None]]:
        """Rows of the accuracy matrix by the task that they come after; joint training has one row only."""
        rows = lookup(self.metrics, "accuracy" if split == "test" else f"{split}.accuracy") or []
        evaluated = sorted({int(task) for task in self.accuracy["after_task"] if task > 0})
        after = evaluated if len(evaluated) == len(rows) else range(1, len(rows) + 1)
        return dict(zip(after, rows, strict=True))


@dataclass(frozen=True)
class Source:
    """A folder that the user named: one run, or a multirun with its cells."""

    folder: Path
    command: str
    runs: tuple[Run, ...]
    is_multirun: bool


def read_source(folder: Path) -> Source:
    """Read a run folder or a multirun folder.

    Raises:
        InputError: if `folder` is neither, or if one of its files cannot be read.
    """
    if (folder / "multirun.json").is_file():
        content = _json(folder / "multirun.json")
        if not content.get("cells"):
            raise InputError(f"{folder / 'multirun.json'} lists no cells: there is nothing to report; run it again")
        cells = [(folder / cell["folder"], tuple(cell["overrides"])) for cell in content["cells"]]
        return Source(folder, str(content.get("command", "")), tuple(read_run(*cell) for cell in cells), True)
    if not (folder / "metrics.json").is_file() and not (folder / "config.yaml").is_file():
        problem = "has neither metrics.json nor multirun.json" if folder.is_dir() else "does not exist"
        raise InputError(
            f"{folder} is no run folder: it {problem}; "
            "give a folder that `cl-fisher run` wrote, such as outputs/run/DATE/TIME or outputs/multirun/DATE/TIME"
        )
    run = read_run(folder)
    return Source(folder, str(run.metrics.get("command") or ""), (run,), False)


def read_run(folder: Path, overrides: tuple[str, ...] | None = None) -> Run:
    """Read one run folder; `overrides` are known from elsewhere where the folder itself may be missing."""
    path = folder / "metrics.json"
    metrics = _json(path) if path.is_file() else {}
    return Run(folder, tuple(metrics.get("overrides") or ()) if overrides is None else overrides, metrics)


def lookup(tree: Any, key: str) -> Any:
    """The value at a dotted key in nested dictionaries; None if there is none."""
    for part in key.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no JSON object, as `cl-fisher run` would have written")
    return content


def _frame(path: Path, numeric: list[str], unique: list[str]) -> pd.DataFrame:
    """A CSV file without the torn last line of a killed run; of repeated rows (a resumed task) the last counts."""
    try:
        frame = pd.read_csv(path, on_bad_lines="skip")
    except (FileNotFoundError, pd.errors.EmptyDataError):
        return pd.DataFrame(columns=numeric, dtype=float)
    frame = frame.reindex(columns=list(dict.fromkeys([*frame.columns, *numeric])))
    frame[numeric] = frame[numeric].apply(pd.to_numeric, errors="coerce")
    return frame.dropna(subset=unique).drop_duplicates(unique, keep="last").reset_index(drop=True)
