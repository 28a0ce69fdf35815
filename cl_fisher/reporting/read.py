"""Reads run folders and multirun folders, however far their runs came."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import UnionType
from typing import Any

import pandas as pd
import yaml

from cl_fisher.error import InputError

TASKS = ("benchmark", "dataset", "scenario", "n_tasks", "label_noise", "root", "path")
"""Keys of the configuration that say what is learned."""
COSTS = ("seconds_train", "seconds_fisher", "seconds_eval", "peak_memory_bytes", "state_bytes", "extra_passes")


@dataclass(frozen=True)
class Run:
    """One run folder. Files that are not there yet are empty frames and empty dictionaries."""

    folder: Path
    overrides: tuple[str, ...]
    """What was typed for this run, such as ("strategy=ewc", "seed=0")."""
    metrics: dict[str, Any]
    """metrics.json; empty if the run ended before it was written."""
    choices: dict[str, str] = field(default_factory=dict)
    """What was taken from each configuration group, by default or not, such as {"strategy": "ewc"}; of a cell that
    never began also {"n_tasks": "5", "seed": "0"}: multirun.json is all that is known of it. Old folders name few."""

    @property
    def status(self) -> str:
        """Finished, failed, interrupted, running (or killed), or missing where there is no metrics.json."""
        if not self.metrics:
            return "missing"
        return str(self.metrics.get("status") or "running")

    @property
    def error(self) -> str:
        """Why the run failed; empty otherwise."""
        return str(self.metrics.get("error") or "")

    @property
    def settings(self) -> dict[str, str]:
        """The overrides as key and value; what was taken out with a ~ has none."""
        pairs = ((override, *override.lstrip("+~").partition("=")) for override in self.overrides)
        return {key: "" if override.startswith("~") else value for override, key, _, value in pairs}

    @property
    def seed(self) -> str:
        """The seed as text; empty if it is not known."""
        return self._name("seed")

    @property
    def strategy(self) -> str:
        """The strategy's name; empty if it is not known."""
        return self._name("strategy")

    @cached_property
    def is_joint(self) -> bool:
        """Whether all tasks were trained on together: the first evaluation after training then comes after the last.

        The number of rows would not tell: a run that ended after its first task has one, too.
        """
        after = self.accuracy["after_task"][self.accuracy["after_task"] > 0]
        if after.empty:
            return self.strategy == "joint"
        n_tasks = self.number("n_tasks") or self.accuracy["task"].max()
        return bool(after.min() == n_tasks > 1)

    def _name(self, key: str) -> str:
        """As recorded, else as typed, else as the multirun planned it."""
        found = (source.get(key) for source in (self.metrics, self.settings, self.choices))
        return next((str(value) for value in found if value is not None), "")

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
    def tasks(self) -> str:
        """What is learned, by the resolved configuration: equal texts for equal tasks; empty where there is none."""
        learned = {key: _wherever(self.config[key]) for key in TASKS if key in self.config}
        return json.dumps(learned, sort_keys=True, default=str) if learned else ""

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
    def continual(self) -> pd.DataFrame:
        """Within tasks: columns task, step (0 = before the first), global_step, evaluated_task, accuracy, n."""
        columns = ["task", "step", "global_step", "evaluated_task", "accuracy"]
        return _frame(self.folder / "continual.csv", columns, unique=["task", "step", "evaluated_task"])

    @cached_property
    def costs(self) -> pd.DataFrame:
        """One row per task: seconds, bytes, extra passes."""
        return _frame(self.folder / "costs.csv", ["task", *COSTS], unique=["task"])

    @cached_property
    def fisher(self) -> pd.DataFrame:
        """One row per task whose Fisher information was estimated."""
        return _frame(self.folder / "fisher.csv", ["task"], unique=["task"])

    @cached_property
    def regions(self) -> pd.DataFrame:
        """Points of the plane: what is predicted there after each task; after_task 0: test points, what is right."""
        columns = ["after_task", "task", "x", "y", "unit", "probability"]
        return _frame(self.folder / "regions.csv", columns, unique=columns[:4])

    def matrix(self, split: str = "test") -> dict[int, list[float | None]]:
        """Rows of the accuracy matrix by the task that they come after; joint training has one row only."""
        rows = lookup(self.metrics, "accuracy" if split == "test" else f"{split}.accuracy") or []
        if self.is_joint:
            return {len(row): row for row in rows[:1]}
        return dict(enumerate(rows, start=1))


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
        cells = content.get("cells")
        if not cells:
            raise InputError(f"{folder / 'multirun.json'} lists no cells: there is nothing to report; run it again")
        _check_cells(folder / "multirun.json", cells)
        runs = (read_run(folder / cell["folder"], tuple(cell["overrides"]), cell.get("choices")) for cell in cells)
        return Source(folder, str(content.get("command", "")), tuple(runs), True)
    if not (folder / "metrics.json").is_file() and not (folder / "config.yaml").is_file():
        problem = "has neither metrics.json nor multirun.json" if folder.is_dir() else "does not exist"
        raise InputError(
            f"{folder} is no run folder: it {problem}; "
            "give a folder that `cl-fisher run` wrote, such as outputs/run/DATE/TIME or outputs/multirun/DATE/TIME"
        )
    run = read_run(folder)
    return Source(folder, str(run.metrics.get("command") or ""), (run,), False)


def read_run(
    folder: Path, overrides: tuple[str, ...] | None = None, choices: Mapping[str, object] | None = None
) -> Run:
    """Read one run folder; a multirun knows `overrides` and `choices` also of a run that left no folder.

    Raises:
        InputError: if metrics.json is not what a run would have written.
    """
    path = folder / "metrics.json"
    metrics = {}
    if path.is_file():
        metrics = _json(path)
        _check_metrics(path, metrics)
    typed = tuple(metrics.get("overrides") or ()) if overrides is None else overrides
    chosen = {**(choices or {}), **(metrics.get("choices") or {})}
    return Run(folder, typed, metrics, {key: str(value) for key, value in chosen.items() if value is not None})


def lookup(tree: Any, key: str) -> Any:
    """The value at a dotted key in nested dictionaries; None if there is none."""
    for part in key.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def _wherever(tree: Any) -> Any:
    """A part of a configuration without the folders that data sets lie in."""
    if isinstance(tree, dict):
        return {key: _wherever(value) for key, value in tree.items() if key != "data_dir"}
    return tree


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no JSON object, as `cl-fisher run` would have written")
    return content


def _check_cells(path: Path, cells: Any) -> None:
    for i, cell in enumerate(cells if isinstance(cells, list) else [cells]):
        known = cell if isinstance(cell, dict) else {}
        problem = "" if isinstance(known.get("folder"), str) else "folder"
        if not _is_list_of(known.get("overrides"), str):
            problem = problem or "overrides"
        if not isinstance(known.get("choices"), dict | None):
            problem = problem or "choices"
        if problem:
            raise InputError(
                f'{path} is broken: cell {i} must look like {{"folder": "000_seed=0", "overrides": ["seed=0"]}}, '
                f"but its {problem!r} is missing or of another kind"
            )


def _check_metrics(path: Path, metrics: dict[str, Any]) -> None:
    """What every run writes from its start on must be there; all else may be, and is then of the right kind."""
    problems = [key for key in ("status", "n_tasks", "accuracy") if key not in metrics]
    if problems:
        raise InputError(f"{path} lacks {', '.join(problems)}: it is no file that `cl-fisher run` has written")
    kinds = {"status": str, "n_tasks": int, "accuracy": list, "overrides": list, "validation": dict}
    kinds |= {"seconds": dict, "versions": dict, "choices": dict}
    problems = [key for key, kind in kinds.items() if not isinstance(metrics.get(key), kind | None)]
    for key in ("accuracy", "validation.accuracy"):
        rows = lookup(metrics, key) or []
        numbers = _is_list_of(rows, list) and all(_is_list_of(row, int | float | None) for row in rows)
        if not numbers or not all(rows) or len({len(row) for row in rows}) > 1:
            problems.append(key)
    if not _is_list_of(metrics.get("overrides") or [], str):
        problems.append("overrides")
    if problems:
        raise InputError(f"{path} is broken: {problems[0]!r} is not of the kind that `cl-fisher run` writes")


def _is_list_of(value: Any, kind: type | UnionType) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)


def _frame(path: Path, numeric: list[str], unique: list[str]) -> pd.DataFrame:
    """A CSV file without the torn last line of a killed run; of repeated rows (a resumed task) the last counts."""
    try:
        frame = pd.read_csv(path, on_bad_lines="skip")
    except (FileNotFoundError, pd.errors.EmptyDataError):
        return pd.DataFrame(columns=numeric, dtype=float)
    frame = frame.reindex(columns=list(dict.fromkeys([*frame.columns, *numeric])))
    frame[numeric] = frame[numeric].apply(pd.to_numeric, errors="coerce")
    return frame.dropna(subset=unique).drop_duplicates(unique, keep="last").reset_index(drop=True)
