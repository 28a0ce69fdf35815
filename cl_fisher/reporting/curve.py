"""Charts of lines with bands: accuracy within tasks, and a metric against a number that a sweep varies."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from cl_fisher.reporting.during import Seen
from cl_fisher.reporting.plot import LIGHT, WIDTH, axes_in
from cl_fisher.reporting.theme import Style

_POINTS = 4.8
"""The width of a digit in a label of the axis."""


@dataclass(frozen=True)
class Line:
    """Values in percent."""

    x: Sequence[float]
    mean: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    style: Style


def during_chart(seen: Seen, styles: dict[int, Style], limits: tuple[float, float]) -> Figure:
    """Accuracy of each task over all optimizer steps, a line per task; dotted where another task begins.

    Args:
        seen: what was measured; only the tasks in `styles` are drawn.
        styles: by task.
        limits: of the vertical axis, in percent: those of all charts that are to be compared.
    """
    figure = Figure(figsize=(WIDTH, 2.1))
    axes = axes_in(figure, left=0.36, right=0.1, top=0.1, bottom=0.34)
    for boundary in seen.boundaries:
        axes.axvline(boundary, color=LIGHT["muted"], lw=0.8, ls=(0, (1, 2)))
    for task, style in styles.items():
        if task in seen.lines:
            line = seen.lines[task]
            mean, low, high = ((100 * line[column]).tolist() for column in ("mean", "min", "max"))
            _draw(axes, Line(line["global_step"].tolist(), mean, low, high, style), width=1.3)
    axes.set_ylim(*limits)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.grid(visible=True, axis="y", color=LIGHT["grid"], lw=0.7)
    return figure


def sweep_chart(lines: Sequence[Line], values: Sequence[float], log: bool, limits: tuple[float, float]) -> Figure:
    """A metric against a number: the mean over seeds with its 95 % interval as a band.

    Args:
        lines: one per combination of what else varies.
        values: of the number, rising; the ticks.
        log: a logarithmic scale; 0 is then drawn to the left of the smallest positive value.
        limits: the least and the largest value that is possible; no band goes beyond them.
    """
    figure = Figure(figsize=(WIDTH, 2.2))
    axes = axes_in(figure, left=0.36, right=0.14, top=0.1, bottom=0.34)
    for line in lines:
        _draw(axes, line, width=1.6, marker=line.style.marker)
    if log:
        least = min(value for value in values if value > 0)
        if values[0] == 0:
            axes.set_xscale("symlog", linthresh=least)
        else:
            axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(visible=True, color=LIGHT["grid"], lw=0.7)
    axes.margins(x=0.04, y=0.06)
    few = values if len(values) <= 8 else [values[i * (len(values) - 1) // 7] for i in range(8)]
    axes.set_xticks(_apart(axes, few))
    low, high = np.clip(axes.get_ylim(), *limits)
    axes.set_ylim(float(low), float(high))
    return figure


def _apart(axes: Axes, values: Sequence[float]) -> list[float]:
    """The first and the last of rising values, and of those between as many as have room for their labels."""
    pixels = axes.transData.transform([(value, 0) for value in values])[:, 0] * 72 / axes.figure.dpi
    halves = [_POINTS * (len(f"{value:g}") + 1) / 2 for value in values]  # with half a character at either side
    kept = [len(values) - 1]
    for i in (0, *range(1, len(values) - 1)):
        if all(abs(pixels[i] - pixels[j]) >= halves[i] + halves[j] for j in kept):
            kept.append(i)
    return [values[i] for i in sorted(kept)]


def _draw(axes: Axes, line: Line, width: float, marker: str = "") -> None:
    color, dash = line.style.color, line.style.dash
    axes.fill_between(line.x, line.low, line.high, color=color, alpha=0.18, lw=0)
    axes.plot(line.x, line.mean, color=color, lw=width, ls=dash, marker=marker, ms=4, mec=LIGHT["surface"], mew=0.5)
