"""The cache of reference runs: what it is keyed by, and that nothing in it can break a run."""

import json

import pytest
import yaml

from cl_fisher.reporting import reference
from cl_fisher.reporting.read import read_source

DATA = "0123456789abcdef"
ROWS = [[0.9, 0.1], [0.8, 0.7]]


def config(strategy="cumulative", **changes):
    target = f"cl_fisher.strategy.{strategy}.{strategy.capitalize()}"
    base = {
        "strategy": {"_target_": target, "strength": 0.0}, "seed": 0, "n_tasks": 2, "epochs": 10, "iterations": None,
        "optimizer": {"_target_": "torch.optim.Adam", "lr": 0.001}, "fisher": {"samples": None}, "log_every": 10,
        "output_dir": "a", "data_dir": "b", "verbosity": 1,
    }  # fmt: skip
    return base | changes


@pytest.mark.parametrize("strategy", ["cumulative", "joint", "independent"])
def test_what_one_run_keeps_another_finds(tmp_path, strategy):
    rows = ROWS[1:] if strategy == "joint" else ROWS
    reference.save(tmp_path / "new", config(strategy), DATA, rows)
    assert reference.load(tmp_path / "new", config("ewc"), DATA) == {strategy: rows}
    assert not list(tmp_path.rglob("*.tmp"))


def test_other_strategies_keep_nothing(tmp_path):
    reference.save(tmp_path / "new", config("ewc"), DATA, ROWS)
    assert not (tmp_path / "new").exists()
    assert reference.load(tmp_path / "new", config("ewc"), DATA) == {}


@pytest.mark.parametrize(
    "changes",
    [{"seed": 1}, {"epochs": 5}, {"iterations": 5}, {"optimizer": {"_target_": "torch.optim.SGD"}}, {"new_key": 1}],
)
def test_whatever_changes_a_reference_changes_the_key(changes):
    assert reference.key(config(**changes), DATA) != reference.key(config(), DATA)


@pytest.mark.parametrize(
    "changes", [{"output_dir": "x"}, {"verbosity": 0}, {"log_every": 1}, {"fisher": {}}, {"eval_every": 2}]
)
def test_what_no_reference_depends_on_does_not(changes):
    assert reference.key(config("ewc", **changes), DATA) == reference.key(config(), DATA)


def test_other_data_under_the_same_name_have_no_reference(tmp_path):
    reference.save(tmp_path, config(), DATA, ROWS)
    assert reference.load(tmp_path, config("ewc"), "fedcba9876543210") == {}


def test_with_iterations_epochs_do_not_matter():
    assert reference.key(config(iterations=5, epochs=1), DATA) == reference.key(config(iterations=5, epochs=2), DATA)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"accuracy": []}',
        '{"accuracy": [[0.5]]}',
        '{"accuracy": [[0.5, "x"], [1, 2]]}',
        b"\xff\xfe",
    ],
)
def test_a_damaged_file_is_ignored_with_a_warning(tmp_path, content):
    reference.save(tmp_path, config(), DATA, ROWS)
    reference.save(tmp_path, config("joint"), DATA, ROWS[1:])
    path = next(tmp_path.glob("*cumulative.json"))
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.warns(UserWarning, match="is no reference and is ignored"):
        assert reference.load(tmp_path, config("ewc"), DATA) == {"joint": ROWS[1:]}


def test_a_folder_that_cannot_be_written_costs_a_warning(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="no reference was kept"):
        reference.save(tmp_path / "file" / "x", config(), DATA, ROWS)


def test_a_failed_write_leaves_the_old_reference(tmp_path, monkeypatch):
    reference.save(tmp_path, config(), DATA, ROWS)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.warns(UserWarning, match="No space left"):
        reference.save(tmp_path, config(), DATA, [[0.0, 0.0]] * 2)
    assert reference.load(tmp_path, config(), DATA) == {"cumulative": ROWS}


def test_a_report_compares_the_runs_of_a_sweep_whichever_ran_first(multirun_folder):
    cells = [("ewc", 0), ("cumulative", 0), ("ewc", 1)]
    folder = multirun_folder(cells)
    for cell, (strategy, seed) in zip(sorted(folder.glob("0*")), cells, strict=True):
        (cell / "config.yaml").write_text(yaml.safe_dump(config(strategy, seed=seed, n_tasks=5)))
    before = read_source(folder)
    (after,) = reference.completed([before])
    matrices = [run.metrics["accuracy"] for run in before.runs]
    expected = sum(matrices[1][k][k] - matrices[0][k][k] for k in range(5)) / 5
    assert after.runs[0].metrics["intransigence"] == pytest.approx(expected)
    assert "intransigence" not in after.runs[2].metrics  # of another seed
    assert "fwt_reference" not in after.runs[0].metrics
    assert json.loads((after.runs[0].folder / "metrics.json").read_text()) == before.runs[0].metrics


def test_a_report_compares_runs_of_the_same_data_only(multirun_folder):
    cells = [("ewc", 0), ("cumulative", 0)]
    folder = multirun_folder(cells)
    for i, (cell, (strategy, seed)) in enumerate(zip(sorted(folder.glob("0*")), cells, strict=True)):
        (cell / "config.yaml").write_text(yaml.safe_dump(config(strategy, seed=seed, n_tasks=5)))
        metrics = json.loads((cell / "metrics.json").read_text())
        (cell / "metrics.json").write_text(json.dumps(metrics | {"data": str(i)}))
    assert "intransigence" not in reference.completed([read_source(folder)])[0].runs[0].metrics
