"""Charts as files: what they say by themselves."""

import matplotlib.image
import pytest
from matplotlib.figure import Figure

from cl_fisher.reporting.aggregate import Estimate
from cl_fisher.reporting.caption import MAX_PIXELS, Caption, save_png
from cl_fisher.reporting.plot import Course, accuracy_heatmap, interval_chart, task_course
from cl_fisher.reporting.theme import series

LONG = "ewc, fisher/estimator=stratified, fisher/structure=kronecker, path=$x_1$, strategy.strength=1000"


def course(n: int) -> Figure:
    return task_course([Course([0, 1], [0.1, 0.9], style) for style in series(n)], 1, 1)


@pytest.mark.parametrize("n", [1, 2, 12])
def test_a_file_has_title_axis_names_and_a_legend_of_its_lines(tmp_path, n):
    figure = course(n)
    names = [f"{i} {LONG}" for i in range(n)]
    save_png(
        figure,
        Caption(LONG, "after task", "accuracy (%)", list(zip(names, series(n), strict=True))),
        tmp_path / "a.png",
    )
    (axes,) = figure.axes
    assert axes.get_title(loc="left").replace("\n", " ") == LONG
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("after task", "accuracy (%)")
    legend = axes.get_legend()
    if n == 1:
        assert legend is None
        return
    assert [text.get_text().replace("\n", " ") for text in legend.get_texts()] == names
    assert [line.get_color() for line in legend.get_lines()] == [style.color for style in series(n)]
    boxes = [axes.xaxis.get_tightbbox(), legend.get_window_extent()]
    assert boxes[1].y1 < boxes[0].y0  # below the name of the axis


def test_the_file_grows_with_its_words_and_nothing_is_cut_off(tmp_path):
    save_png(course(12), Caption(""), tmp_path / "bare.png")
    names = [f"{i} {LONG}" for i in range(12)]
    save_png(course(12), Caption(LONG, "x", "y", list(zip(names, series(12), strict=True))), tmp_path / "a.png")
    bare, image = (matplotlib.image.imread(tmp_path / f"{name}.png") for name in ("bare", "a"))
    assert image.shape[0] > 3 * bare.shape[0]
    for edge in (image[:5], image[-5:], image[:, :5], image[:, -5:]):
        assert (edge == 1).all()


@pytest.mark.parametrize(
    "figure", [interval_chart([("a", Estimate((0.5,)), series(1)[0])], (0, 100)), accuracy_heatmap([[0.9] * 50] * 50)]
)
def test_no_file_is_larger_than_it_may_be(tmp_path, figure):
    save_png(figure, Caption(LONG), tmp_path / "a.png")
    assert max(matplotlib.image.imread(tmp_path / "a.png").shape[:2]) <= MAX_PIXELS + 1
