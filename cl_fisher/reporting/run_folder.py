"""The run folder: everything that a run leaves on disk, written while it goes on."""

import csv
import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from cl_fisher.error import InputError
from cl_fisher.event import (
    Consolidated,
    Evaluated,
    Event,
    Probed,
    Regions,
    RunEnded,
    RunStarted,
    StepTaken,
    TaskEnded,
)
from cl_fisher.metric import continual, reference, stability

ACCURACY_COLUMNS = ("after_task", "task", "accuracy", "n")
REGION_COLUMNS = ("after_task", "task", "x", "y", "unit", "probability")
STEP_COLUMNS = ("task", "epoch", "step", "global_step", "loss", "penalty")
CONTINUAL_COLUMNS = ("task", "step", "global_step", "evaluated_task", "accuracy", "n")
METRICS = (*continual.KEYS, *stability.KEYS, *reference.KEYS)
TABLES = ("accuracy", "validation", "steps", "continual", "fisher", "costs", "regions")
FLUSH_SECONDS = 1.0


class RunFolder:
    """Writes config.yaml, metrics.json and the CSV files of one run.

    Args:
        path: The folder; made if it does not exist.

    Raises:
        InputError: The folder cannot be written to.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path / ".writable", "")
            (self.path / ".writable").unlink()
        except OSError as error:
            reason = error.strerror or error
            raise InputError(f"cannot write to the run folder {path} ({reason}): choose another output_dir") from error
        self._tables = {name: Table(self.path / f"{name}.csv") for name in TABLES}
        self._summary: dict[str, Any] = {}

    def handle(self, event: Event) -> None:
        """Write what the event brings; all rows are on disk afterwards, those within a task after about a second."""
        match event:
            case StepTaken():
                step = (event.task, event.epoch, event.step, event.global_step, event.loss, event.penalty)
                self._tables["steps"].append(STEP_COLUMNS, step)
                return
            case RunStarted():
                self._start(event)
            case Evaluated() if any(event.counts):
                table = self._tables["accuracy" if event.split == "test" else "validation"]
                for task, (accuracy, n) in enumerate(zip(event.accuracy, event.counts, strict=True), start=1):
                    table.append(ACCURACY_COLUMNS, (event.after_task, task, accuracy, n))
            case Consolidated():
                values = {"task": event.task, **event.values, "global_step": event.global_step}
                self._tables["fisher"].append(tuple(values), tuple(values.values()))
            case Regions():
                for x, y, unit, probability in zip(event.x, event.y, event.unit, event.probability, strict=True):
                    place = (event.after_task, event.task, f"{x:.6g}", f"{y:.6g}", unit, f"{probability:.4g}")
                    self._tables["regions"].append(REGION_COLUMNS, place)
            case Probed():
                for task, (accuracy, n) in enumerate(zip(event.accuracy, event.counts, strict=True), start=1):
                    row = (event.task, event.step, event.global_step, task, accuracy, n)
                    self._tables["continual"].append(CONTINUAL_COLUMNS, row)
                return
            case TaskEnded():
                if event.costs:
                    values = {"task": event.task, **event.costs}
                    self._tables["costs"].append(tuple(values), tuple(values.values()))
                self._write_metrics(event.summary)
            case RunEnded():
                end = {"final": event.status == "finished", "status": event.status, "error": event.error}
                self._write_metrics({**event.summary, **end})
        self._flush()

    def state_dict(self) -> dict[str, Any]:
        """Sizes of the CSV files in bytes."""
        self._flush()
        return {name: table.size for name, table in self._tables.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Drop the rows that were written after `state` was taken: what they tell of will happen again."""
        for name, size in state.items():
            self._tables[name].cut(size)

    def _start(self, event: RunStarted) -> None:
        write_atomically(self.path / "config.yaml", yaml.safe_dump(event.config, sort_keys=False, allow_unicode=True))
        metrics = self.path / "metrics.json"
        if event.resumed_from == 0:
            for table in self._tables.values():
                table.cut(0)
        elif metrics.exists():
            self._summary = json.loads(metrics.read_text(encoding="utf-8"))
        self._write_metrics({**_nothing_yet(event), **self._summary, "final": False, "status": "running", "error": ""})

    def _write_metrics(self, summary: Mapping[str, Any]) -> None:
        self._summary.update(summary)
        write_atomically(self.path / "metrics.json", pretty(_plain(self._summary)) + "\n")

    def _flush(self) -> None:
        for table in self._tables.values():
            table.flush()


class Table:
    """A CSV file that grows row by row. It is open only while it is written, so a run that dies leaves no half row."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: list[Sequence[Any]] = []
        self._columns: tuple[str, ...] = ()
        self._flushed = time.monotonic()

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self.path.stat().st_size if self.path.exists() else 0

    def append(self, columns: tuple[str, ...], row: Sequence[Any]) -> None:
        """Add a row; the columns of the file are those of its first row, others are left out."""
        if not self._columns:
            self._columns = self._header() or columns
            if self.size == 0:
                self._rows.append(self._columns)
        if columns != self._columns:
            row = [dict(zip(columns, row, strict=True)).get(column) for column in self._columns]
        self._rows.append(row)
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Put all rows on disk."""
        if self._rows:
            with self.path.open("a", encoding="utf-8", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows(self._rows)
            self._rows.clear()
        self._flushed = time.monotonic()

    def cut(self, size: int) -> None:
        """Go back to an earlier size of the file; 0 removes it."""
        self._rows.clear()
        self._columns = ()
        if size == 0:
            self.path.unlink(missing_ok=True)
        elif size < self.size:  # never longer: a file of a branched run may be new
            os.truncate(self.path, size)

    def _header(self) -> tuple[str, ...]:
        if self.size == 0:
            return ()
        with self.path.open(encoding="utf-8", newline="") as file:
            return tuple(next(csv.reader(file)))


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that a reader, and a crash, meets either the old content or the new one."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")  # runs side by side may write the same reference
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def pretty(value: Any, indent: str = "") -> str:
    """JSON for people: a key or a matrix row per line."""
    inner = indent + "  "
    if isinstance(value, dict) and value:
        return _block("{}", [f"{json.dumps(k)}: {pretty(v, inner)}" for k, v in value.items()], indent)
    if isinstance(value, list) and any(isinstance(row, list) for row in value):
        return _block("[]", [pretty(row, inner) for row in value], indent)
    return json.dumps(value, ensure_ascii=False, allow_nan=False, default=str)


def _block(brackets: str, lines: list[str], indent: str) -> str:
    body = ",\n".join(f"{indent}  {line}" for line in lines)
    return f"{brackets[0]}\n{body}\n{indent}{brackets[1]}"


def _plain(value: Any) -> Any:
    """Lists and dicts, with null for what is no number, as JSON wants them."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _nothing_yet(event: RunStarted) -> dict[str, Any]:
    """What can be said of a run before its first task is over."""
    return {
        "final": False,
        "status": "running",
        "error": "",
        "seed": event.config.get("seed"),
        "n_tasks": event.n_tasks,
        **{group: event.choices.get(group) for group in ("strategy", "benchmark", "dataset", "scenario")},
        **dict.fromkeys(METRICS),
        "accuracy": [],
        "choices": dict(event.choices),
        "overrides": event.overrides,
        "command": event.command,
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
