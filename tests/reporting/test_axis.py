"""Sweeps over a number: which key, which lines, and the chart of them."""

from itertools import pairwise
from pathlib import Path

import pytest

from cl_fisher.reporting.aggregate import group_runs
from cl_fisher.reporting.axis import axis
from cl_fisher.reporting.curve import sweep_chart
from cl_fisher.reporting.gallery import line_of
from cl_fisher.reporting.glossary import METRICS
from cl_fisher.reporting.read import Run
from cl_fisher.reporting.theme import series


def groups(*cells, seeds=(0, 1)):
    """Groups of finished runs, from overrides such as "strategy=ewc a=1"."""
    runs = []
    for i, cell in enumerate(cells):
        for seed in seeds:
            metrics = {"status": "finished", "seed": seed, "avg_accuracy": 0.5 + 0.01 * i + 0.02 * seed}
            runs.append(Run(Path(f"{i}_{seed}"), (*cell.split(), f"seed={seed}"), metrics))
    return group_runs(runs)


def test_one_line_for_each_combination_of_the_rest():
    cells = [f"strategy=ewc strategy.strength={s} optimizer={o}" for s in (100, 1, 10) for o in ("sgd", "adam")]
    found = axis(groups(*cells))
    assert found.key == "strategy.strength"
    assert {name: [x for x, _ in line] for name, line in found.lines.items()} == {
        "ewc, optimizer=sgd": [1, 10, 100],
        "ewc, optimizer=adam": [1, 10, 100],
    }
    assert found.values == [1, 10, 100]


@pytest.mark.parametrize(
    "cells",
    [
        ["strategy=ewc", "strategy=finetune", "strategy=joint"],
        ["a=1", "a=2"],
        ["a=1", "a=2", "a=x"],
        [f"a={a} b={b}" for a, b in ((1, 7), (2, 5), (3, 9), (4, 6))],
        [],
    ],
)
def test_no_number_two_values_or_no_grid_are_no_axis(cells):
    assert axis(groups(*cells)) is None


@pytest.mark.parametrize(
    ("grid", "key"),
    [
        ({"a": (1, 2, 3), "b": (4, 5, 6)}, "a"),
        ({"a": (1, 2, 3), "b": (4, 5, 6, 7)}, "b"),
        ({"a": (1, 2, 3), "strategy.strength": (4, 5, 6)}, "strategy.strength"),
    ],
)
def test_a_grid_of_numbers_has_a_line_for_each_value_of_the_one_with_fewer(grid, key):
    (first, firsts), (second, seconds) = grid.items()
    found = axis(groups(*[f"{first}={a} {second}={b}" for a in firsts for b in seconds]))
    other = second if key == first else first
    assert (found.key, found.values) == (key, list(grid[key]))
    assert list(found.lines) == [f"run, {other}={value}" for value in grid[other]]
    assert {len(line) for line in found.lines.values()} == {len(grid[key])}


def test_a_number_that_varies_with_everything_else_is_no_axis():
    """Here each strategy has a learning rate of its own, and only the strength makes a line."""
    cells = [f"strategy=s{i} lr={i}" for i in range(4)] + [f"strategy=ewc lr=5 strength={s}" for s in (1, 2, 3)]
    assert axis(groups(*cells)).key == "strength"


def test_a_second_number_of_two_values_is_one_of_the_rest():
    assert list(axis(groups(*[f"a={a} b={b}" for a in (1, 2, 3) for b in (4, 5)])).lines) == ["run, b=4", "run, b=5"]


@pytest.mark.parametrize(
    ("values", "log"),
    [
        ((1, 2, 9.9), False),
        ((1, 3, 10), True),
        ((1, 10, 100), True),
        ((0, 1, 1000), True),
        ((-1, 1, 1000), False),
        ((0, 1, 2), False),
    ],
)
def test_a_wide_span_is_logarithmic(values, log):
    assert axis(groups(*[f"a={value}" for value in values])).is_log is log


@pytest.mark.parametrize("values", [(0.001, 1, 1000), (0, 1, 1000), (1, 2, 3), tuple(range(1, 30))])
def test_the_chart_shows_means_and_intervals_within_what_is_possible(values):
    found = axis(groups(*[f"a={value}" for value in values]))
    ((_, points),) = found.lines.items()
    line = line_of(points, METRICS[0], series(1)[0])
    assert line.mean == pytest.approx([51 + i for i in range(len(values))])
    # two seeds 0.02 apart: 12.7062 * 0.02 / sqrt(2) / sqrt(2)
    assert line.high == pytest.approx([min(100, 51 + i + 12.7062) for i in range(len(values))], abs=1e-3)
    assert max(line.high) <= 100
    axes = sweep_chart([line], found.values, found.is_log, METRICS[0].limits).axes[0]
    assert axes.get_xscale() == {True: "symlog" if values[0] == 0 else "log", False: "linear"}[found.is_log]
    assert len(axes.get_xticks()) <= 8
    assert list(axes.lines[0].get_xdata()) == list(values)


@pytest.mark.parametrize(
    "values", [(1, 3, 10, 30, 100), (0, 1, 2, 100), (0, 0.001, 0.002, 1000), (0.5, 0.9, 0.95, 0.99, 0.999), (1, 2, 50)]
)
def test_no_two_labels_of_the_axis_touch(values):
    found = axis(groups(*[f"a={value}" for value in values]))
    ((_, points),) = found.lines.items()
    figure = sweep_chart([line_of(points, METRICS[0], series(1)[0])], found.values, found.is_log, METRICS[0].limits)
    figure.draw_without_rendering()
    labels = [label for label in figure.axes[0].get_xticklabels() if label.get_text()]
    boxes = [label.get_window_extent() for label in labels]
    assert all(left.x1 + 2 < right.x0 for left, right in pairwise(boxes))
    assert [labels[0].get_text(), labels[-1].get_text()] == [f"{values[0]:g}", f"{values[-1]:g}"]
