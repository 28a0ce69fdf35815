"""Decision regions of networks on points of the plane, out of regions.csv."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from cl_fisher.reporting.theme import COLORS

SURE = 0.9
"""From this probability on a region is drawn darker."""
_SIZE = 2.1  # inches
_UNITS = [pair[0] for name, pair in COLORS.items() if name not in ("surface", "ink", "muted", "grid")]
_MARKERS = "osD^"  # a colour that comes again
_SHADE: dict[str, Any] = {"levels": [0.5, 1.5], "alpha": 0.22, "antialiased": True}


def shown(regions: pd.DataFrame, at_end: bool) -> list[tuple[int, int]]:
    """What is worth drawing, as (after_task, task) in that order: `at_end` alone, or after each task.

    Where each task is asked for by itself, a task is drawn right after it was learned and at the end.
    """
    maps = regions.loc[regions["after_task"] > 0, ["after_task", "task"]].drop_duplicates().astype(int)
    pairs = sorted(maps.itertuples(index=False, name=None))
    return [(after, task) for after, task in pairs if after == pairs[-1][0] or (task == after and not at_end)]


def region_chart(regions: pd.DataFrame, after: int, task: int) -> Figure:
    """Where each output unit wins, in its colour, darker where it is sure; test points in that of their right unit.

    Args:
        regions: Content of regions.csv.
        after: The tasks that the network was trained on, by the last of them.
        task: The task that is asked for. Where only one is, the points are those of all tasks so far, else its own.
    """
    grid = regions[(regions["after_task"] == after) & (regions["task"] == task)]
    points = regions[regions["after_task"] == 0]
    one_by_one = bool((regions["after_task"] > regions["task"]).any())
    points = points[points["task"] == task if one_by_one else points["task"] <= after]
    figure = Figure(figsize=(_SIZE, _SIZE), facecolor=COLORS["surface"][0])
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    unit, probability = (grid.pivot(index="y", columns="x", values=name) for name in ("unit", "probability"))
    x, y = unit.columns.to_numpy(), unit.index.to_numpy()
    for number in sorted({int(number) for number in (*grid["unit"], *points["unit"])}):
        color, own = _UNITS[number % len(_UNITS)], (unit == number).to_numpy()
        for part in (own, own & (probability >= SURE).to_numpy()):
            if part.any():
                axes.contourf(x, y, part.astype(float), colors=[color], **_SHADE)
        right = points[points["unit"] == number]
        marker = _MARKERS[number // len(_UNITS) % len(_MARKERS)]
        axes.plot(right["x"], right["y"], marker, color=color, ms=2.6, mec=COLORS["surface"][0], mew=0.4)
    axes.set_xlim(x[0], x[-1])
    axes.set_ylim(y[0], y[-1])
    return figure
