import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex, to_rgb

from cl_fisher.reporting.aggregate import Estimate, Group
from cl_fisher.reporting.plot import (
    Course,
    accuracy_heatmap,
    curve_limits,
    interval_chart,
    task_course,
    thin,
    to_svg,
    training_curves,
)
from cl_fisher.reporting.theme import COLORS, HEAT, STRONG, Style, styles

BLUE = Style("blue", "-", "o")


def steps(losses: list[float], task_length: int = 100) -> pd.DataFrame:
    n = len(losses)
    task = [1 + i // task_length for i in range(n)]
    return pd.DataFrame({"task": task, "global_step": range(1, n + 1), "loss": losses})


@pytest.mark.parametrize("dark", [False, True])
def test_heatmap_writes_percent_and_leaves_undefined_entries_empty(dark: bool) -> None:
    axes = accuracy_heatmap([[0.913, None], [0.5, 0.25]], dark=dark).axes[0]
    assert sorted(text.get_text() for text in axes.texts) == ["25.0", "50.0", "91.3"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["1", "2"]
    assert to_hex(axes.get_facecolor()) == COLORS["surface"][dark]


def test_heatmap_of_joint_training_has_one_row_named_all() -> None:
    assert row_names([[0.9, 0.8, 0.7]]) == ["all"]


def test_heatmap_of_an_unfinished_run() -> None:
    assert row_names([[0.9, 0.1, 0.1]], after=[1]) == ["1"]
    assert row_names([[0.9, 0.1, 0.1]], after=[2]) == ["2"]
    assert row_names([[0.9, 0.1, 0.1], [0.8, 0.9, 0.1]]) == ["1", "2"]


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 5), (2, 2), (20, 20)])
def test_nothing_of_the_heatmap_is_cut_off(rows: int, columns: int) -> None:
    figure = accuracy_heatmap([[0.5] * columns for _ in range(rows)])
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert min(box.x0, box.y0) >= 0
    assert box.x1 <= width
    assert box.y1 <= height


def row_names(matrix: list[list[float | None]], after: list[int] | None = None) -> list[str]:
    return [label.get_text() for label in accuracy_heatmap(matrix, after=after).axes[0].get_yticklabels()]


def luminance(color: np.ndarray) -> float:
    linear = np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(a: float, b: float) -> float:
    return (max(a, b) + 0.05) / (min(a, b) + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_numbers_in_the_heat_map_can_be_read(dark: bool) -> None:
    """WCAG AA: contrast 4.5:1."""
    low, high = (np.array(to_rgb(color)) for color in HEAT[dark])
    for value in np.linspace(0, 1, 201):
        white = (value >= STRONG) != dark
        assert contrast(luminance(low + (high - low) * value), float(white)) >= 4.5


@pytest.mark.parametrize("dark", [False, True])
def test_text_and_lines_stand_out_from_the_page(dark: bool) -> None:
    surface = luminance(np.array(to_rgb(COLORS["surface"][dark])))
    for name, pair in COLORS.items():
        least = {"surface": 1, "grid": 1, "ink": 7, "muted": 4.5}.get(name, 3)
        assert contrast(luminance(np.array(to_rgb(pair[dark]))), surface) >= least, name


def test_recolouring_by_name_is_unambiguous() -> None:
    assert len({light for light, _ in COLORS.values()}) == len(COLORS)


def group(strategy: str, label: str) -> Group:
    return Group(label, strategy, (), ())


def test_a_strategy_has_one_colour_and_its_settings_differ_in_dash() -> None:
    first, second, other = styles([group("ewc", "ewc, a=1"), group("ewc", "ewc, a=2"), group("si", "si, a=1")])
    assert first.name == second.name != other.name
    assert first.dash != second.dash


def test_settings_of_one_strategy_differ_in_colour() -> None:
    assert len({style.name for style in styles([group("ewc", f"ewc, a={i}") for i in range(8)])}) == 8


def test_more_groups_than_colours_are_possible() -> None:
    assert len(styles([group(f"s{i}", f"s{i}") for i in range(50)])) == 50


@pytest.mark.parametrize(("strategies", "settings"), [(["ewc"], 9), (["ewc", "si"], 5), (["ewc", "si", "l2"], 10)])
def test_no_two_groups_look_the_same(strategies: list[str], settings: int) -> None:
    found = styles([group(name, f"{name}, a={i}") for name in strategies for i in range(settings)])
    assert len({(style.name, style.dash) for style in found}) == len(found)


def test_interval_chart_shows_each_seed_the_mean_and_the_interval() -> None:
    estimate = Estimate((0.1, 0.2, 0.3))
    axes = interval_chart([("ewc", estimate, BLUE), ("joint", Estimate(()), BLUE)], (-100, 100)).axes[0]
    bar, mean, seeds = (line.get_xdata() for line in axes.lines)
    assert bar == pytest.approx([20 - 100 * estimate.half_width, 20 + 100 * estimate.half_width])  # type: ignore[operator]
    assert mean == pytest.approx([20])
    assert seeds == pytest.approx([10, 20, 30])
    assert [text.get_text() for text in axes.texts] == ["ewc", "joint", "undefined"]


LONG = "ewc, fisher/estimator=stratified, fisher/structure=kronecker, optimizer=sgd, path=" + 70 * "x"


@pytest.mark.parametrize("labels", [["ewc"] * 3, [LONG] * 3, ["ewc", LONG, "joint"]])
def test_every_label_fits_its_chart_and_touches_no_row(labels: list[str]) -> None:
    figure = interval_chart([(label, Estimate((0.1, 0.2, 0.3)), BLUE) for label in labels], (0, 100))
    figure.draw_without_rendering()
    (axes,) = figure.axes
    assert [text.get_text().replace("\n", " ").replace(" x", "x") for text in axes.texts] == labels
    rows = [axes.transData.transform((0, line.get_ydata()[0]))[1] for line in axes.lines[::3]]
    above = [figure.bbox.height + 5, *rows[:-1]]
    for text, own, before in zip(axes.texts, rows, above, strict=True):
        box = text.get_window_extent()
        assert 0 <= box.x0 < box.x1 <= figure.bbox.width
        assert own + 4 < box.y0 < box.y1 < before - 4
    assert rows[-1] > axes.bbox.y0


@pytest.mark.parametrize(
    ("values", "limits"),
    [
        ((0.99, 1.0, 0.9), (0, 100)),
        ((0.0, 0.05), (0, 100)),
        ((0.5, 0.9), (0, 100)),
        ((1.0, 1.0), (0, 100)),
        ((0.0, 0.0), (0, 100)),
        ((-0.9, 0.5), (-100, 100)),
        ((-0.1, 0.1), (-100, 100)),
    ],
)
def test_no_axis_or_interval_goes_beyond_what_is_possible(
    values: tuple[float, ...], limits: tuple[float, float]
) -> None:
    axes = interval_chart([("ewc", Estimate(values), BLUE)], limits).axes[0]
    drawn = np.concatenate([np.asarray(line.get_xdata()) for line in axes.lines])
    left, right = axes.get_xlim()
    assert limits[0] <= left < right <= limits[1]
    assert left <= drawn.min() <= drawn.max() <= right
    half = 100 * Estimate(values).half_width  # type: ignore[operator]
    mean = 50 * sum(values) if len(values) == 2 else 100 * sum(values) / 3
    assert list(axes.lines[0].get_xdata()) == pytest.approx([max(limits[0], mean - half), min(limits[1], mean + half)])


def test_one_seed_has_no_interval() -> None:
    assert len(interval_chart([("ewc", Estimate((0.5,)), BLUE)], (0, 100)).axes[0].lines) == 2


def test_joint_training_is_a_level() -> None:
    joint = Course([0, 2], [0.1, 0.8], BLUE, is_level=True)
    axes = task_course([Course([0, 1, 2], [0.1, 0.9, 0.5], BLUE), joint], 1, 2).axes[0]
    course, level = axes.lines
    assert list(course.get_ydata()) == [10, 90, 50]
    assert list(level.get_ydata()) == [80, 80]
    assert list(level.get_xdata()) == [0, 1]  # the whole width of the axes


def test_what_ended_after_its_first_task_is_two_points() -> None:
    (line,) = task_course([Course([0, 1], [0.1, 0.9], BLUE)], 1, 5).axes[0].lines
    assert list(line.get_xdata()) == [0, 1]
    assert list(line.get_ydata()) == [10, 90]


def test_thin_averages_within_tasks_and_leaves_a_gap_between_them() -> None:
    curve = thin(steps([1.0] * 1000 + [3.0] * 1000, task_length=1000), "loss")
    assert len(curve) == 242
    assert set(curve["loss"].dropna()) == {1.0, 3.0}
    assert curve["loss"].isna().sum() == 2


def test_thin_keeps_short_runs_whole() -> None:
    assert list(thin(steps([3.0, 2.0, 1.0]), "loss")["loss"].dropna()) == [3.0, 2.0, 1.0]


def test_a_task_with_one_row_is_a_point() -> None:
    def points(frame: pd.DataFrame) -> list[float]:
        axes = training_curves([frame], "loss", BLUE, (1.0, 3.0)).axes[0]
        return [x for line in axes.lines if line.get_marker() == "." for x in line.get_xdata()]

    assert points(steps([3.0, 2.0, 1.0], task_length=1)) == [1, 2, 3]
    assert points(steps([3.0, 2.0, 1.0], task_length=2)) == [3]
    assert points(steps([3.0, 2.0, 1.0])) == []


@pytest.mark.parametrize(("losses", "scale"), [([2.0, 1.0, 0.1], "linear"), ([2.0, 1.0, 0.01], "log")])
def test_scale_is_logarithmic_where_values_span_decades(losses: list[float], scale: str) -> None:
    frame = steps(losses, task_length=2)
    bounds = curve_limits([frame], "loss")
    assert bounds == (losses[2], 2.0)
    axes = training_curves([frame], "loss", BLUE, bounds).axes[0]
    assert axes.get_yscale() == scale
    assert list(axes.lines[0].get_xdata()) == [2, 2]  # the boundary after task 1


def test_limits_pass_over_what_is_not_finite_or_positive() -> None:
    assert curve_limits([steps([float("inf"), 0.0, float("nan"), 2.0])], "loss") == (2.0, 2.0)
    assert curve_limits([steps([0.0])], "loss") is None
    assert curve_limits([], "loss") is None


def test_svg_takes_its_colours_from_the_page() -> None:
    svg = to_svg(interval_chart([("ewc", Estimate((0.1, 0.3)), BLUE)], (0, 100)), 'a "b" <c> & d')
    assert svg.startswith('<svg viewBox="0 0 252 ')
    assert 'aria-label="a &#34;b&#34; &lt;c&gt; &amp; d"' in svg
    assert "var(--blue)" in svg
    assert "var(--ink)" in svg
    assert not re.findall(r"#[0-9a-f]{6}\b", svg)
    assert "http" not in svg


def test_labels_are_neither_markup_nor_formula() -> None:
    svg = to_svg(interval_chart([("<script>$x_1$ \\frac", Estimate((0.1, 0.3)), BLUE)], (0, 100)), "chart")
    assert "&lt;script&gt;$x_1$ \\frac" in svg
    assert "<script>" not in svg


def test_ids_of_two_charts_do_not_clash() -> None:
    chart = [("ewc", Estimate((0.1, 0.3)), BLUE)]
    first, second = (
        set(re.findall(r'\bid="([^"]+)"', to_svg(interval_chart(chart, (0, 100)), text))) for text in ("a", "b")
    )
    assert first
    assert not first & second


def test_pyplot_is_not_needed_and_matplotlib_is_loaded_late(tmp_path: Path) -> None:
    code = """
import sys
import cl_fisher.reporting.report, cl_fisher.reporting.table
assert "matplotlib" not in sys.modules
from cl_fisher.reporting.plot import accuracy_heatmap
accuracy_heatmap([[0.5]]).savefig("x.png")
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
