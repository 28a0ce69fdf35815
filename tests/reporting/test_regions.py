import json
import re

import pandas as pd
import pytest
from matplotlib.colors import to_hex

from cl_fisher.event import Regions, RunEnded
from cl_fisher.reporting.plot import to_svg
from cl_fisher.reporting.regions import region_chart, shown
from cl_fisher.reporting.report import write_report
from cl_fisher.reporting.run_folder import RunFolder
from cl_fisher.reporting.theme import COLORS

SIDE = 12
LINE = [i / (SIDE - 1) for i in range(SIDE)]
BLUE, VERMILLION, GREEN = (COLORS[name][0] for name in ("blue", "vermillion", "green"))


def grid(after, task, units, sure=0.5):
    """The left half is the first unit's, the right half the second's, for sure from `sure` on to the right."""
    x = tuple(LINE * SIDE)
    y = tuple(value for value in LINE for _ in range(SIDE))
    unit = tuple(units[value > 0.5] for value in x)
    return Regions(after, task, x, y, unit, tuple(0.99 if value > sure else 0.6 for value in x))


def truth(task, units):
    return Regions(0, task, (0.1, 0.9), (0.5, 0.5 + task / 10), tuple(units), (1.0, 1.0))


def frame(*events):
    return pd.concat(
        pd.DataFrame(
            {
                "after_task": e.after_task,
                "task": e.task,
                "x": e.x,
                "y": e.y,
                "unit": e.unit,
                "probability": e.probability,
            }
        )
        for e in events
    )


BY_TASK = frame(
    truth(1, (0, 1)), truth(2, (2, 3)), grid(1, 1, (0, 1)), grid(2, 1, (0, 1), sure=2), grid(2, 2, (2, 3))
)  # fmt: skip
SHARED = frame(truth(1, (0, 1)), truth(2, (0, 1)), grid(1, 1, (0, 1)), grid(2, 2, (1, 0)))


def test_what_is_drawn():
    assert shown(BY_TASK, at_end=False) == [(1, 1), (2, 1), (2, 2)]
    assert shown(BY_TASK, at_end=True) == [(2, 1), (2, 2)]
    assert shown(SHARED, at_end=False) == [(1, 1), (2, 2)]
    assert shown(SHARED, at_end=True) == [(2, 2)]
    assert shown(frame(truth(1, (0, 1))), at_end=False) == []
    three = frame(*(grid(after, task, (0, 1)) for after in (1, 2, 3) for task in range(1, after + 1)))
    assert shown(three, at_end=False) == [(1, 1), (2, 2), (3, 1), (3, 2), (3, 3)]


def areas(figure):
    """Extent of each filled area along x, by colour."""
    found = {}
    for contours in figure.axes[0].collections:
        (path,) = contours.get_paths()
        color = to_hex(contours.get_facecolor()[0])
        found.setdefault(color, []).append((path.vertices[:, 0].min(), path.vertices[:, 0].max()))
    return found


def dots(figure):
    return {line.get_color(): len(line.get_xdata()) for line in figure.axes[0].lines}


def test_colours_tell_the_unit_and_darkness_how_sure():
    found = areas(region_chart(BY_TASK, 1, 1))
    assert set(found) == {BLUE, VERMILLION}
    assert found[BLUE] == [pytest.approx((0, 0.5), abs=0.01)], "nowhere sure"
    assert found[VERMILLION] == [pytest.approx((0.5, 1), abs=0.01)] * 2, "sure everywhere"
    assert [len(spans) for spans in areas(region_chart(BY_TASK, 2, 1)).values()] == [1, 1]
    assert set(areas(region_chart(BY_TASK, 2, 2))) == {GREEN, COLORS["purple"][0]}


def test_points_of_the_task_asked_for_or_of_all_so_far():
    assert dots(region_chart(BY_TASK, 2, 1)) == {BLUE: 1, VERMILLION: 1}
    assert dots(region_chart(BY_TASK, 2, 2)) == {GREEN: 1, COLORS["purple"][0]: 1}
    assert dots(region_chart(SHARED, 1, 1)) == {BLUE: 1, VERMILLION: 1}
    assert dots(region_chart(SHARED, 2, 2)) == {BLUE: 2, VERMILLION: 2}


def test_a_colour_that_comes_again_has_another_marker():
    lines = region_chart(frame(truth(1, (0, 8)), grid(1, 1, (0, 8))), 1, 1).axes[0].lines
    assert [line.get_marker() for line in lines] == ["o", "s"]
    assert len({line.get_color() for line in lines}) == 1


def test_it_follows_the_theme():
    svg = to_svg(region_chart(BY_TASK, 1, 1), "regions")
    assert {"var(--blue)", "var(--vermillion)"} <= set(re.findall(r"var\(--\w+\)", svg))
    assert BLUE not in svg


def test_from_events_to_the_page(tmp_path, events):
    folder = RunFolder(tmp_path)
    *before, end = events
    for event in (*before, truth(1, (0, 1)), grid(1, 1, (0, 1)), grid(2, 2, (1, 0)), end):
        folder.handle(event)
    written = pd.read_csv(tmp_path / "regions.csv")
    assert list(written) == ["after_task", "task", "x", "y", "unit", "probability"]
    assert len(written) == 2 + 2 * SIDE**2
    assert isinstance(end, RunEnded)
    page = write_report([tmp_path]).read_text()
    assert page.count("<figcaption>After task ") == 2
    assert 'aria-label="Regions of ewc after task 2"' in page
    assert (tmp_path / "plots" / "regions_ewc_after_task_2.png").exists()
    assert json.loads((tmp_path / "metrics.json").read_text())["final"]


def test_a_page_without_points_has_no_such_section(tmp_path, events):
    folder = RunFolder(tmp_path)
    for event in events:
        folder.handle(event)
    assert not (tmp_path / "regions.csv").exists()
    assert "Decision regions" not in write_report([tmp_path]).read_text()


def test_a_resumed_run_draws_again(tmp_path):
    folder = RunFolder(tmp_path)
    folder.handle(grid(1, 1, (0, 1)))
    state = folder.state_dict()
    folder.handle(grid(2, 2, (0, 1)))
    folder.load_state_dict(state)
    assert set(pd.read_csv(tmp_path / "regions.csv")["after_task"]) == {1}
