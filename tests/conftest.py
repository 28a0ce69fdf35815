"""One short run told in events, for every listener: two tasks of two steps, consolidated once each."""

from dataclasses import replace
from uuid import uuid4

import pytest

from cl_fisher.event import Consolidated, Evaluated, Event, RunEnded, RunStarted, StepTaken, TaskEnded, TaskStarted
from cl_fisher.reporting.run_folder import METRICS

CONFIG = {"strategy": {"strength": 100.0}, "seed": 0, "n_tasks": 2, "model": {"hidden": [400, 400]}, "name": "ö"}
CHOICES = {"strategy": "ewc", "scenario": "task", "benchmark": "split", "dataset": "digits"}
FISHER = {"estimator": "exact", "structure": "diagonal", "samples": 90, "seconds": 0.5, "bytes": 40, "trace": 1.5}


def summary(rows: list[list[float | None]], **metrics: float | None) -> dict:
    return {
        "final": False,
        "status": "running",
        "error": "",
        "seed": 0,
        "n_tasks": 2,
        "strategy": "ewc",
        "benchmark": "split",
        "dataset": "digits",
        "scenario": "task",
        **dict.fromkeys(METRICS),
        **metrics,
        "accuracy": rows,
        "choices": CHOICES,
        "overrides": ["strategy=ewc", "seed=0"],
        "command": "cl-fisher run",
        "started": "2026-01-02T03:04:05+00:00",
        "label": "ewc",
        "seconds": {"train": 1.0, "fisher": 0.5, "eval": 0.1, "total": 1.6},
    }


@pytest.fixture(autouse=True)
def _own_references(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No run of a test leaves a reference in the user's cache, or finds one there."""
    monkeypatch.setenv("CL_FISHER_REFERENCES", str(tmp_path_factory.getbasetemp() / "references" / uuid4().hex))


@pytest.fixture
def events() -> list[Event]:
    """The whole run; accuracy on task 2 is undefined until it has been trained on."""
    first = summary([[0.9, None]], avg_accuracy=0.9, learning_accuracy=0.9)
    both = summary([[0.9, None], [0.8, 0.7]], avg_accuracy=0.75, learning_accuracy=0.8, forgetting=0.1, bwt=-0.1)
    return [
        RunStarted(2, 2, CONFIG, CHOICES, ("strategy=ewc", "seed=0"), "cl-fisher run"),
        Evaluated(0, 0, "test", (0.1, None), (50, 40)),
        TaskStarted(1, 100, 2, 1),
        StepTaken(1, 1, 1, 1, 2.5, 0.0),
        StepTaken(1, 1, 2, 2, 1.25, 0.0),
        Consolidated(1, 2, FISHER),
        Evaluated(1, 2, "test", (0.9, None), (50, 40)),
        Evaluated(1, 2, "validation", (0.95, None), (10, 10)),
        TaskEnded(1, 2, first),
        TaskStarted(2, 80, 2, 1),
        StepTaken(2, 1, 1, 3, 0.75, 0.25),
        StepTaken(2, 1, 2, 4, 0.5, 0.5),
        Consolidated(2, 4, {**FISHER, "trace": 3.0}),
        Evaluated(2, 4, "test", (0.8, 0.7), (50, 40)),
        Evaluated(2, 4, "validation", (0.85, 0.75), (10, 10)),
        TaskEnded(2, 4, both),
        RunEnded("finished", 4, {**both, "final": True, "status": "finished"}),
    ]


@pytest.fixture
def resumed(events: list[Event]) -> list[Event]:
    """The same run, gone on with in another process after its first task."""
    return [replace(events[0], resumed_from=1), *events[9:]]


@pytest.fixture
def failed(events: list[Event]) -> list[Event]:
    """The same run, dead within its second task."""
    return [*events[:11], RunEnded("failed", 3, {}, "the loss is not finite")]
