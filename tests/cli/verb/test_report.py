from pathlib import Path

import pytest


def test_folders_are_read_compared_and_reported(cli, jobs, tmp_path):
    for name, file in (("a", "metrics.json"), ("b", "multirun.json")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text("{}")
    status, out, _ = cli("report", "a", "b", "-o", "page.html")
    assert (status, out) == (0, "")
    assert jobs.reported == jobs.compared == [[Path("a"), Path("b")]]


@pytest.mark.parametrize(
    ("argv", "hint"), [(["nope"], "there is no folder nope"), (["."], "neither a run nor a multirun"), ([], "required")]
)
def test_mistakes(cli, jobs, argv, hint):
    status, _, err = cli("report", *argv)
    assert status == 2
    assert hint in err
    assert err.count("\n") == 1
    assert jobs.reported == []
