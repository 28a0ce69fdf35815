"""What continual evaluation saw of a group of runs."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cl_fisher.reporting.aggregate import Group

_STRETCHES = 120
"""A line of more than twice as many points keeps the lowest and the highest of each stretch: no gap may be lost."""


@dataclass(frozen=True)
class Seen:
    """Accuracy within tasks, over the seeds."""

    lines: dict[int, pd.DataFrame]
    """By evaluated task: columns global_step (mean over the seeds), mean, min, max, in the order of time."""
    boundaries: list[float]
    """The global steps at which another task began, mean over the seeds."""


def seen(group: Group) -> Seen | None:
    """Mean and range over the seeds; None without continual evaluation.

    A class order that depends on the seed makes tasks of different lengths: what is averaged is the n-th evaluation
    within a task, as far as all seeds that know the evaluated task have it.
    """
    frames = [run.continual for run in group.counted if not run.continual.empty]
    if not frames:
        return None
    rows = pd.concat([_numbered(frame).assign(seed=seed) for seed, frame in enumerate(frames)])
    n_seeds = rows.groupby("evaluated_task")["seed"].nunique()
    means = rows.groupby(["evaluated_task", "task", "n"]).agg(
        global_step=("global_step", "mean"),
        mean=("accuracy", "mean"),
        min=("accuracy", "min"),
        max=("accuracy", "max"),
        seeds=("seed", "size"),
    )
    table = means.reset_index()
    table = table[table["seeds"] == table["evaluated_task"].map(n_seeds)]
    tasks = sorted({int(task) for task in table["evaluated_task"]})
    lines = {task: thin(table[table["evaluated_task"] == task].reset_index(drop=True)) for task in tasks}
    first = pd.concat([frame.groupby("task")["global_step"].min() for frame in frames]).groupby("task").mean()
    return Seen(lines, [float(step) for step in first.iloc[1:]])


def _numbered(frame: pd.DataFrame) -> pd.DataFrame:
    """One run's known accuracies, with their number among the evaluations of that task within the task."""
    known = frame.dropna(subset=["accuracy"]).sort_values(["task", "step"])
    return known.assign(n=known.groupby(["evaluated_task", "task"]).cumcount())


def thin(line: pd.DataFrame) -> pd.DataFrame:
    """The line with few enough points to be drawn."""
    if len(line) <= 2 * _STRETCHES:
        return line
    stretch = np.arange(len(line)) * _STRETCHES // len(line)
    parts = line.groupby(stretch)["mean"]
    kept = sorted({0, len(line) - 1, *parts.idxmin(), *parts.idxmax()})
    return line.loc[kept]
