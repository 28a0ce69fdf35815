"""Synthetic run folders, written by hand in the format that RunFolder writes."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

T = 5
VERSIONS = {"cl_fisher": "0.1.0", "python": "3.11.9", "torch": "2.14.1", "platform": "Linux", "processor": "x86_64"}
FINAL = {"finetune": 0.5, "ewc": 0.8, "joint": 0.95}


def accuracy_matrix(strategy: str, seed: int) -> list[list[float | None]]:
    """Tasks are learned to 0.96 - 0.01 * seed and fall linearly to the strategy's final level."""
    top, final = 0.96 - 0.01 * seed, FINAL.get(strategy, 0.7) + 0.01 * seed
    if strategy == "joint":
        return [[final] * T]
    return [
        [top - (top - final) * (i - j) / max(1, T - j) if j <= i else 0.1 + 0.02 * i for j in range(1, T + 1)]
        for i in range(1, T + 1)
    ]


def write_rows(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def write_run(folder: Path, strategy: str = "ewc", seed: int = 0, steps: int = 40, **changes: Any) -> Path:
    """A finished run; `changes` replace entries of metrics.json."""
    folder.mkdir(parents=True)
    matrix = changes.get("accuracy", accuracy_matrix(strategy, seed))
    joint = strategy == "joint"
    metrics: dict[str, Any] = {
        "final": True, "status": "finished", "error": "", "seed": seed, "n_tasks": T, "strategy": strategy,
        "benchmark": "permuted", "dataset": "digits", "scenario": "domain", "label": strategy,
        "avg_accuracy": sum(matrix[-1]) / T,
        "learning_accuracy": None if joint else sum(matrix[i][i] for i in range(len(matrix))) / len(matrix),
        "forgetting": None if joint else 0.3 + 0.01 * seed, "forgetting_first": None if joint else 0.3,
        "bwt": None if joint else -0.3 - 0.01 * seed, "fwt": None if joint else 0.02,
        "accuracy": matrix, "accuracy_at_initialisation": [0.1] * T,
        "validation": {"avg_accuracy": 0.777, "accuracy": matrix},
        "overrides": [f"strategy={strategy}", f"seed={seed}"],
        "command": f"cl-fisher run strategy={strategy} seed={seed}",
        "n_parameters": 178110, "global_step": steps * T,
        "seconds": {"train": 10.0 + seed, "fisher": 1.5, "eval": 0.5, "total": 12.0 + seed},
        "peak_memory_bytes": 500_000_000, "state_bytes": 7_000_000, "versions": VERSIONS,
        "started": f"2026-01-02T03:0{seed}:05+00:00",
    }  # fmt: skip
    metrics |= changes
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "config.yaml").write_text(f"seed: {seed}\nn_tasks: {T}\nstrategy:\n  strength: 100\n")
    rows = [(0, j + 1, 0.1, 72) for j in range(T)]
    after = [T] if joint else range(1, len(matrix) + 1)
    rows += [
        (i, j + 1, "" if a is None else a, 72) for i, row in zip(after, matrix, strict=True) for j, a in enumerate(row)
    ]
    write_rows(folder / "accuracy.csv", ["after_task", "task", "accuracy", "n"], rows)
    write_rows(
        folder / "steps.csv",
        ["task", "epoch", "step", "global_step", "loss", "penalty"],
        [
            (task, 1, step, (task - 1) * steps + step, 2.3 / step**0.8, 0.01 * (task - 1) * (strategy == "ewc"))
            for task in range(1, 2 if joint else T + 1)
            for step in range(1, steps + 1)
        ],
    )
    write_rows(
        folder / "costs.csv",
        ["task", "seconds_train", "seconds_fisher", "seconds_eval", "peak_memory_bytes", "state_bytes", "extra_passes"],
        [
            (t, 2.0 + seed, 0.3, 0.1, 500_000_000, 7_000_000, 1.0 * (strategy == "ewc"))
            for t in range(1, 2 if joint else T + 1)
        ],
    )
    if strategy == "ewc":
        header = ["task", "estimator", "structure", "samples", "seconds", "bytes", "trace", "max"]
        write_rows(
            folder / "fisher.csv",
            header,
            [(t, "exact", "diagonal", 1293, 0.3, 712440, 2.0 + t + seed, 0.1) for t in range(1, T + 1)],
        )
    return folder


def write_multirun(
    folder: Path,
    cells: Sequence[tuple[str, int]],
    absent: Sequence[tuple[str, int]] = (),
    typed: bool = True,
    **changes: Any,
) -> Path:
    """A multirun whose `absent` cells left no folder; the strategy is `typed` or else a default that was chosen."""
    folder.mkdir(parents=True)
    listed = []
    for i, (strategy, seed) in enumerate(cells):
        overrides = [f"strategy={strategy}", f"seed={seed}"][0 if typed else 1 :]
        cell: dict[str, Any] = {"folder": f"{i:03d}_{'_'.join(overrides)}", "overrides": overrides}
        names = {"strategy": strategy, "benchmark": "permuted", "dataset": "digits", "scenario": "domain"}
        listed.append(cell if typed else cell | {"choices": names | {"seed": seed}})
        if (strategy, seed) not in absent:
            write_run(folder / str(cell["folder"]), strategy, seed, **changes)
    content = {
        "command": "cl-fisher run -m strategy=finetune,ewc,joint seed=0,1,2",
        "cells": listed,
        "started": "2026-01-02T03:00:00",
    }
    (folder / "multirun.json").write_text(json.dumps(content))
    return folder


def write_continual(folder: Path, seed: int = 0, n_tasks: int = 2, steps: int = 4) -> None:
    """Task 1 falls at the boundary and comes back, by seed; every other step is measured."""
    rows = []
    for task in range(1, n_tasks + 1):
        for step in range(0, steps + 1, 2):
            for evaluated in range(1, task + 1):
                level = step / (steps + 2) if evaluated == task else 0.3 + 0.1 * seed if step == 2 else 0.8
                rows.append((task, step, (task - 1) * steps + step, evaluated, level, 100))
    write_rows(folder / "continual.csv", ["task", "step", "global_step", "evaluated_task", "accuracy", "n"], rows)


NINE = [(strategy, seed) for strategy in ("finetune", "ewc", "joint") for seed in (0, 1, 2)]


@pytest.fixture
def run_folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes a run: run_folder(strategy, seed, name=..., **metrics)."""

    def write(strategy: str = "ewc", seed: int = 0, name: str = "run", **changes: Any) -> Path:
        return write_run(tmp_path / name, strategy, seed, **changes)

    return write


@pytest.fixture
def multirun_folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes a multirun: three strategies by three seeds unless told otherwise."""

    def write(cells: Sequence[tuple[str, int]] = NINE, name: str = "multirun", **kwargs: Any) -> Path:
        return write_multirun(tmp_path / name, cells, **kwargs)

    return write
