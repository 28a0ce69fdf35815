import pytest


def test_every_group_with_its_choices_and_what_they_are(cli):
    status, out, _ = cli("list")
    assert status == 0
    lines = [line.split(maxsplit=2) for line in out.splitlines()]
    assert ["strategy", "ewc", "Elastic weight consolidation, one penalty per task (Kirkpatrick et al. 2017)."] in lines
    assert all(len(line) == 3 for line in lines), "every choice is described"
    assert out.isascii() or "─" not in out


@pytest.mark.parametrize(
    ("group", "text"),
    [("fisher/estimator", "The Fisher itself"), ("strategy", "strategy.gamma=1.0"), ("optimizer", "optimizer.lr=1e-3")],
)
def test_one_group_with_the_options_of_its_choices(cli, group, text):
    status, out, _ = cli("list", group)
    assert status == 0
    assert text in out


def test_a_group_of_ones_own(cli, tmp_path):
    (tmp_path / "mine" / "strategy").mkdir(parents=True)
    (tmp_path / "mine" / "strategy" / "hope.yaml").write_text("# Nothing but hope.\nstrength: 0\n")
    assert "Nothing but hope." in cli("list", "strategy", "--config-dir", "mine")[1]


@pytest.mark.parametrize(
    ("argv", "hint"),
    [
        (["stratgy"], "did you mean 'strategy'"),
        (["xyz"], "there are benchmark"),
        (["a", "b"], "unrecognized"),
        (["-cd", "nope"], "does not exist"),
    ],
)
def test_mistakes(cli, argv, hint):
    status, _, err = cli("list", *argv)
    assert status == 2
    assert hint in err
    assert err.count("\n") == 1


def test_a_table_on_a_terminal(cli, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    status, out, _ = cli("list")
    assert status == 0
    assert "choice" in out.splitlines()[0]


def test_keys_of_a_preset_are_shown_as_they_are_typed(cli):
    out = cli("list", "experiment")[1]
    assert "experiment." not in out
    assert all(f" {key}" in out for key in ("iterations=2000", "scenario.head=full", "optimizer.momentum=0.9"))
