"""Charts. Each is one small figure with a single message; the page lays them out side by side.

Only matplotlib's objects are used, never pyplot: nothing global changes, and no window system is asked for.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import escape
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cl_fisher.reporting.aggregate import Estimate
from cl_fisher.reporting.label import wrapped
from cl_fisher.reporting.theme import COLORS, HEAT, STRONG, Style, variables

WIDTH = 3.5  # inches; on the page one inch is about 100 pixels, on a phone as on a desk
LIGHT = {name: pair[0] for name, pair in COLORS.items()}
_CURVE_POINTS = 240
_ROOM = 46  # characters of a label of 8 points across the chart
LOG_FROM = 30
"""Curves whose values span more than this factor are drawn on a logarithmic scale."""


@dataclass(frozen=True)
class Course:
    """Accuracy of one task in one group: what after_task it was measured at, and the values."""

    after_task: Sequence[float]
    accuracy: Sequence[float]
    style: Style
    is_level: bool = False
    """Measured once, after all tasks (joint training): drawn as a level."""


def accuracy_heatmap(
    matrix: list[list[float | None]], *, dark: bool = False, after: Sequence[int] | None = None
) -> Figure:
    """The accuracy matrix with its numbers in percent; None stays empty.

    Args:
        matrix: Fractions; a row per evaluation, a column per task.
        dark: Light on dark instead of dark on light.
        after: The task that each row comes after. By default the matrix is that of a finished run: 1, 2, ..., or all
            tasks if it has one row (joint training). One row of a run that ended early needs after=[1].
    """
    color = variables(dark)
    values = np.array([[np.nan if value is None else value for value in row] for row in matrix], dtype=float, ndmin=2)
    rows, columns = values.shape
    left, right, top, bottom = 0.62, 0.1, 0.2, 0.5  # inches; a layout engine would draw all the numbers twice
    across, down = max(0.48 * columns, 1.2), 0.36 * rows
    width, height = left + across + right, top + down + bottom
    figure = Figure(figsize=(width, height), facecolor=color["surface"])
    axes = figure.add_axes((left / width, bottom / height, across / width, down / height))
    axes.imshow(values, cmap=LinearSegmentedColormap.from_list("accuracy", HEAT[dark]), vmin=0, vmax=1, aspect="auto")
    axes.set_facecolor(color["surface"])
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            ink = "white" if (value >= STRONG) != dark else "black"
            axes.text(column, row, f"{100 * value:.1f}", ha="center", va="center", fontsize=8, color=ink)
    axes.set_xticks(range(columns), [str(task + 1) for task in range(columns)])
    if after is None:
        after = [columns] if rows == 1 else range(1, rows + 1)
    axes.set_yticks(range(rows), ["all" if rows == 1 and task == columns > 1 else str(task) for task in after])
    axes.set_xlabel("accuracy (%) on task", color=color["ink"], fontsize=9)
    axes.set_ylabel("after task", color=color["ink"], fontsize=9)
    axes.tick_params(length=0, labelsize=8, colors=color["muted"])
    axes.spines[:].set_visible(False)
    return figure


def interval_chart(rows: Sequence[tuple[str, Estimate, Style]], limits: tuple[float, float]) -> Figure:
    """One row per group: each seed a dot, the mean a mark, its 95 % interval a bar; all in percent.

    The name stands above its row, in as many lines as it needs: beside it, a long name would leave a phone no room for
    the chart. Neither axis nor bars go beyond `limits`, the least and the largest value that is possible; Student's
    interval knows no such limits.
    """
    row_height, line_height = 0.44, 0.13  # inches; a row is 1 high, and higher by each line but the first of its label
    labels = [wrapped(label, _ROOM) for label, _, _ in rows]
    more = np.cumsum([label.count("\n") * line_height / row_height for label in labels])
    places = np.arange(len(rows)) + more
    total = len(rows) + more[-1]
    figure = Figure(figsize=(WIDTH, 0.42 + row_height * total))
    axes = axes_in(figure, left=0.12, right=0.12, top=0.04, bottom=0.38)
    for y, label, (_, estimate, style) in zip(places, labels, rows, strict=True):
        values = [100 * value for value in estimate.values]
        # parse_math: a dollar sign in an override is no formula
        axes.annotate(label, (0, y), xycoords=("axes fraction", "data"), xytext=(0, 7.5), textcoords="offset points",
                      fontsize=8, color=LIGHT["ink"], parse_math=False, va="bottom", linespacing=1.1)  # fmt: skip
        if estimate.mean is None:
            axes.annotate("undefined", (0, y), xycoords=("axes fraction", "data"), xytext=(0, -4),
                          textcoords="offset points", fontsize=7.5, color=LIGHT["muted"])  # fmt: skip
            continue
        half = estimate.half_width
        if half is not None:
            ends = [100 * (estimate.mean - half), 100 * (estimate.mean + half)]
            axes.plot(np.clip(ends, *limits), [y, y], color=style.color, lw=5, alpha=0.35, solid_capstyle="butt")
        axes.plot([100 * estimate.mean], [y], "|", color=style.color, ms=9, mew=2.2, clip_on=False)
        dots = {"ms": 4, "mec": LIGHT["surface"], "mew": 0.6, "alpha": 0.95, "clip_on": False}
        axes.plot(values, [y] * len(values), "o", color=style.color, **dots)  # type: ignore[arg-type]
    axes.set_ylim(total - 0.55, -0.75)
    axes.set_yticks([])
    axes.grid(visible=True, axis="x", color=LIGHT["grid"], lw=0.7)
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.06)
    left, right = np.clip(axes.get_xlim(), *limits)
    axes.set_xlim(float(left), float(right))
    axes.xaxis.set_major_locator(MaxNLocator(6))
    return figure


def task_course(courses: Sequence[Course], task: int, n_tasks: int) -> Figure:
    """Accuracy of one task after every task: a line per group; joint training is a level."""
    figure = Figure(figsize=(WIDTH * 0.62, 1.5))
    axes = axes_in(figure, left=0.36, right=0.1, top=0.08, bottom=0.3)
    axes.axvspan(0, task, color=LIGHT["grid"], alpha=0.45, lw=0)
    for course in courses:
        color, dash = course.style.color, course.style.dash
        percent = [100 * accuracy for accuracy in course.accuracy]
        if course.is_level:
            axes.axhline(percent[-1], color=color, lw=1.1, ls=dash)
        else:
            marker = {"marker": course.style.marker, "ms": 3.4, "mew": 0.4}
            axes.plot(course.after_task, percent, color=color, lw=1.6, ls=dash, mec=LIGHT["surface"], **marker)  # type: ignore[arg-type]
    axes.set_xlim(-0.2, n_tasks + 0.2)
    axes.set_ylim(-3, 103)
    axes.set_yticks([0, 50, 100])
    axes.tick_params(labelsize=9)  # these are drawn smaller: two fit side by side on a phone
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.grid(visible=True, axis="y", color=LIGHT["grid"], lw=0.7)
    return figure


def training_curves(runs: Sequence[pd.DataFrame], column: str, style: Style, limits: tuple[float, float]) -> Figure:
    """A column of steps.csv over all optimizer steps, one line per run; dotted where a new task begins.

    Args:
        runs: Content of steps.csv, one per run; at least one.
        column: "loss" or "penalty".
        style: Only the colour is used.
        limits: Smallest positive and largest value of all charts that are to be compared.
    """
    figure = Figure(figsize=(WIDTH, 1.9))
    axes = axes_in(figure, left=0.42, right=0.1, top=0.1, bottom=0.34)
    for boundary in runs[0].groupby("task")["global_step"].max().iloc[:-1]:
        axes.axvline(boundary, color=LIGHT["muted"], lw=0.7, ls=(0, (1, 2)))
    for frame in runs:
        curve = thin(frame, column)
        alpha = 0.8 if len(runs) > 1 else 1
        axes.plot(curve["global_step"], curve[column], color=style.color, lw=1.1, alpha=alpha)
        alone = curve[_alone(curve[column])]  # a task with one row: no line goes through it
        axes.plot(alone["global_step"], alone[column], ".", color=style.color, ms=3, alpha=alpha)
    low, high = limits
    if high > LOG_FROM * low:
        axes.set_yscale("log")
        axes.set_ylim(max(low, high * 1e-6) / 1.4, high * 1.4)
    else:
        axes.set_ylim(0, high * 1.06)
    axes.grid(visible=True, axis="y", color=LIGHT["grid"], lw=0.7)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    return figure


def curve_limits(frames: Sequence[pd.DataFrame], column: str) -> tuple[float, float] | None:
    """The smallest and the largest of what `training_curves` will draw that is finite and positive; None if nothing."""
    values = np.concatenate(
        [np.empty(0), *(thin(frame, column)[column].to_numpy(dtype=float) for frame in frames if not frame.empty)]
    )
    values = values[np.isfinite(values) & (values > 0)]
    return (float(values.min()), float(values.max())) if values.size else None


def thin(steps: pd.DataFrame, column: str) -> pd.DataFrame:
    """Means over equal stretches of each task, at most about 240 points in all; a gap between tasks."""
    parts = []
    for _, part in steps.groupby("task"):
        points = max(4, _CURVE_POINTS // steps["task"].nunique())
        stretch = np.arange(len(part)) * min(points, len(part)) // len(part)
        parts += [part[["global_step", column]].groupby(stretch).mean(), pd.DataFrame({"global_step": [np.nan]})]
    return pd.concat(parts, ignore_index=True)


def _alone(values: pd.Series) -> pd.Series:
    """Which values stand between two gaps."""
    return values.notna() & values.shift(1).isna() & values.shift(-1).isna()


def to_svg(figure: Figure, description: str) -> str:
    """The figure as inline SVG whose colours are the page's CSS variables, so that it follows the reader's theme."""
    buffer = io.StringIO()
    # text stays text: small, searchable, and in the reader's font; the salt keeps ids of different charts apart
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": description}):
        figure.savefig(buffer, format="svg", transparent=True)
    text = buffer.getvalue()
    body = text[text.index(">", text.index("<svg")) + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r' id="[\w.]+_\d+"', "", body)
    for name, color in LIGHT.items():
        body = body.replace(color, f"var(--{name})")
    width, height = (72 * inches for inches in figure.get_size_inches())
    return f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(description)}">{body}'


def axes_in(figure: Figure, left: float, right: float, top: float, bottom: float) -> Axes:
    """Axes with margins in inches: a layout engine would take most of the time of drawing."""
    width, height = figure.get_size_inches()
    figure.set_facecolor(LIGHT["surface"])
    axes = figure.add_axes((left / width, bottom / height, 1 - (left + right) / width, 1 - (top + bottom) / height))
    axes.set_facecolor("none")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(LIGHT["grid"])
    axes.tick_params(length=0, labelsize=7.5, labelcolor=LIGHT["muted"], which="both")
    axes.set_axisbelow(True)
    return axes
