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
    """By evaluated task: columns global_step, mean, min, max, in the order of time."""
    boundaries: list[float]
    """The global steps at which another task began."""


def seen(group: Group) -> Seen | None:
    """Mean and range over the seeds; None without continual evaluation."""
    frames = [run.continual for run in group.counted if not run.continual.empty]
    if not frames:
        return None
    keys = ["evaluated_task", "task", "step", "global_step"]
    table = pd.concat(frames).dropna(subset=["accuracy"]).groupby(keys)["accuracy"].agg(["mean", "min", "max"])
    rows = table.reset_index()
    tasks = sorted({int(task) for task in rows["evaluated_task"]})
    lines = {task: thin(rows[rows["evaluated_task"] == task].reset_index(drop=True)) for task in tasks}
    first = frames[0].groupby("task")["global_step"].min()
    return Seen(lines, [float(step) for step in first.iloc[1:]])


def thin(line: pd.DataFrame) -> pd.DataFrame:
    """The line with few enough points to be drawn."""
    if len(line) <= 2 * _STRETCHES:
        return line
    stretch = np.arange(len(line)) * _STRETCHES // len(line)
    parts = line.groupby(stretch)["mean"]
    kept = sorted({0, len(line) - 1, *parts.idxmin(), *parts.idxmax()})
    return line.loc[kept]
