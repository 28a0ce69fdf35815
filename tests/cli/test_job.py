"""Real runs through the command line, small ones: what they leave behind, and what they may never do."""

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from cl_fisher.cli.main import main
from cl_fisher.training import checkpoint

SMALL = ["logger=none", "model.hidden=[16]", "n_tasks=2", "iterations=6", "log_every=2", "verbosity=0"]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """run("key=value", ...) in an empty folder; the run's folder comes back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")

    def call(*overrides, status=0, name="run"):
        folder = tmp_path / name
        assert main(["run", *SMALL, *overrides, f"output_dir={folder}"]) == status
        return folder

    return call


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_run_folder_holds_what_the_interface_says(run):
    folder = run("logger=wandb")
    for name in (
        "config.yaml",
        "metrics.json",
        "accuracy.csv",
        "validation.csv",
        "steps.csv",
        "fisher.csv",
        "report.html",
        "wandb",
    ):
        assert (folder / name).exists(), name
    assert list((folder / "plots").glob("*.png"))
    assert [p.name for p in (folder / "checkpoints").iterdir()] == ["task_002.pt"]
    result = metrics(folder)
    assert result["final"] is True
    names = {
        "seed": 0,
        "n_tasks": 2,
        "strategy": "ewc",
        "benchmark": "permuted",
        "dataset": "digits",
        "scenario": "domain",
    }
    assert {key: result[key] for key in names} == names
    assert result["choices"]["fisher/estimator"] == "exact"
    assert result["avg_accuracy"] == pytest.approx(sum(result["accuracy"][-1]) / 2)
    assert result["forgetting_first"] == pytest.approx(-result["bwt"])
    assert set(result["seconds"]) == {"train", "fisher", "eval", "total"}
    assert result["seconds"]["total"] >= result["seconds"]["train"]
    assert result["state_bytes"] == 2 * 4 * result["n_parameters"]  # precision and centre, float32
    assert result["peak_memory_bytes"] > 2**20
    accuracy = rows(folder / "accuracy.csv")
    assert [(r["after_task"], r["task"]) for r in accuracy] == [(str(a), str(t)) for a in (0, 1, 2) for t in (1, 2)]
    assert [float(r["accuracy"]) for r in accuracy[2:]] == pytest.approx(
        [*result["accuracy"][0], *result["accuracy"][1]]
    )
    assert {r["n"] for r in accuracy} == {"360"}
    assert all(float(r["accuracy"]) * 360 == pytest.approx(round(float(r["accuracy"]) * 360)) for r in accuracy)
    steps = rows(folder / "steps.csv")
    assert list(steps[0])[:6] == ["task", "epoch", "step", "global_step", "loss", "penalty"]
    assert [r["global_step"] for r in steps] == ["2", "4", "6", "8", "10", "12"]
    fisher = rows(folder / "fisher.csv")
    assert [(r["task"], r["estimator"], r["structure"], r["samples"]) for r in fisher] == [
        ("1", "exact", "diagonal", "1294"), ("2", "exact", "diagonal", "1294"),
    ]  # fmt: skip


def test_the_same_command_twice_gives_the_same_metrics(run):
    first, second = metrics(run(name="a")), metrics(run(name="b"))
    for result in (first, second):
        for key in ("seconds", "started", "peak_memory_bytes"):
            del result[key]
    assert first == second


def test_no_strength_is_finetuning_bit_for_bit(run):
    folders = run("strategy.strength=0", name="a"), run("strategy=finetune", name="b")
    idle, plain = (checkpoint.load(checkpoint.latest(f / "checkpoints"))["model"] for f in folders)
    assert all(torch.equal(idle[name], w) for name, w in plain.items())
    assert metrics(folders[0])["accuracy"] == metrics(folders[1])["accuracy"]


def test_joint_has_one_row_and_nothing_to_forget(run):
    result = metrics(run("strategy=joint"))
    assert len(result["accuracy"]) == 1
    assert [result[k] for k in ("forgetting", "forgetting_first", "bwt", "fwt", "learning_accuracy")] == [None] * 5


def test_without_validation_examples(run):
    folder = run("validation_fraction=0")
    assert metrics(folder)["validation"] is None
    assert not (folder / "validation.csv").exists()
    assert rows(folder / "fisher.csv")[0]["samples"] == "1437"


@pytest.mark.parametrize(
    "overrides",
    [
        ["fisher/estimator=empirical", "fisher.samples=100"],
        ["strategy=online_ewc", "strategy.gamma=0.9"],
        ["strategy=cumulative", "scenario=task"],
        ["benchmark=split", "scenario=class", "n_tasks=3"],
        ["benchmark=split", "scenario=class", "scenario.head=full"],
        ["optimizer=sgd", "optimizer.momentum=0.9", "strategy.strength=1"],
        ["trainer.gradient_clip_val=1.0", "trainer.accumulate_grad_batches=2"],
        ["iterations=null", "epochs=1", "batch_size=100"],
        ["loader.in_memory=false", "loader.workers=0"],
        ["optimizer_state=reset", "checkpoint=none"],
    ],
    ids=" ".join,
)
def test_things_that_people_type(run, overrides):
    assert metrics(run(*overrides))["final"]


def test_divergence_is_exit_1_and_keeps_everything(run, capsys):
    folder = run("optimizer=sgd", "optimizer.lr=1.0", "strategy.strength=1e9", "iterations=30", status=1)
    result = metrics(folder)
    assert result["status"] == "failed"
    assert not result["final"]
    assert len(result["accuracy"]) == 1
    assert "lr * strength * max(sum of F) = 1 * 1e+09 * " in result["error"]
    assert "task 2, step" in result["error"]
    assert (folder / "report.html").exists()
    assert [p.name for p in (folder / "checkpoints").iterdir()] == ["task_001.pt"]
    shown = capsys.readouterr().err
    assert "Traceback" not in shown
    assert shown.count("task 2, step") == 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["benchmark=split", "n_tasks=6"], "n_tasks=6"),
        (["benchmark=split", "n_tasks=3"], "same number of classes"),
        (["benchmark=split", "scenario=task", "n_tasks=10"], "at most 5"),
        (["benchmark=split", "scenario=class", "n_tasks=3", "benchmark.sizes=[5,5]"], "sizes"),
        (["+optimizer.foo=1"], "foo"),
        (["optimizer.lr=-1"], "optimizer.lr=-1 is out of range"),
        (["+optimizer.eps=-1"], "optimizer: Invalid epsilon value: -1"),
        (["+trainer.max_epoch=3"], "max_epoch"),
        (["trainer.accelerator=abacus"], "abacus"),
        (["trainer.devices=2"], "devices"),
        (["dataset=mnist", "data_dir=/dev/null"], "data_dir=/dev/null"),
        (["model.hidden=[0]"], "model.hidden"),
        (["dataset=image_folder"], "root is missing"),
        (["dataset=image_folder", "root=/dev/null"], "/dev/null is not a folder"),
        (["dataset=arrays", "path=/nowhere.npz"], "/nowhere.npz does not exist"),
        (["path=x.npz"], "path=x.npz belongs to dataset=arrays"),
        (["dataset=kmnist", "benchmark=split", "n_tasks=6"], "does not fit 10 classes"),
        (["label_noise=2"], "label_noise=2 is out of range"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_wrong_input_is_one_line_and_leaves_nothing(run, tmp_path, capsys, overrides, message):
    run(*overrides, status=2)
    shown = capsys.readouterr().err
    assert shown.startswith("cl-fisher: error: ")
    assert len(shown.strip().splitlines()) == 1
    assert message in shown
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("n_tasks", "status"), [(2, 0), (3, 2)])
def test_ones_own_images_are_a_sequence(run, tmp_path, capsys, n_tasks, status):
    for i in range(24):
        path = tmp_path / "pictures" / "abcd"[i % 4] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 7), (60 * (i % 4), i, 0)).save(path)
    own = ["dataset=image_folder", f"root={tmp_path}/pictures", "dataset.size=8", "benchmark=split", "scenario=task"]
    folder = run(*own, f"n_tasks={n_tasks}", status=status)
    if status == 0:
        assert {row["n"] for row in rows(folder / "accuracy.csv")} == {"2"}
    else:
        assert "n_tasks=3 does not fit 4 classes" in capsys.readouterr().err


def test_noise_is_in_the_training_labels(run):
    toy = [
        "dataset=toy",
        "benchmark=rotated",
        "dataset.n_classes=2",
        "dataset.noise=0",
        "iterations=100",
        "strategy=finetune",
        "n_tasks=1",
        "optimizer.lr=0.05",
    ]
    scores = {noise: metrics(run(*toy, f"label_noise={noise}", name=str(noise))) for noise in (0, 1)}
    assert scores[0]["avg_accuracy"] == 1
    assert scores[1]["avg_accuracy"] == 0, "the test labels are right: all that was learned is wrong"
    assert scores[1]["validation"]["avg_accuracy"] == 1, "validation examples are training examples"


@pytest.mark.usefixtures("run")
def test_every_cell_is_validated_before_the_first_one_trains(tmp_path, capsys):
    assert (
        main(["run", "-m", *SMALL, "benchmark=split", "scenario=class", "n_tasks=2,5,11", f"output_dir={tmp_path}/m"])
        == 2
    )
    assert "n_tasks=11" in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


@pytest.mark.usefixtures("run")
def test_a_multirun_goes_on_when_a_cell_fails(tmp_path, capsys):
    sweep = ["strategy=finetune,ewc", "seed=0,1", "optimizer=sgd", "optimizer.lr=1.0", "iterations=30"]
    assert main(["run", "-m", *SMALL, *sweep, "strategy.strength=1e9", f"output_dir={tmp_path}/m"]) == 1
    assert "Traceback" not in capsys.readouterr().err
    cells = json.loads((tmp_path / "m" / "multirun.json").read_text())["cells"]
    assert len(cells) == 4
    status = [metrics(tmp_path / "m" / c["folder"])["status"] for c in cells]
    assert status == ["finished", "finished", "failed", "failed"]
    page = (tmp_path / "m" / "report.html").read_text()
    assert all(c["folder"] in page for c in cells[2:])
    assert (tmp_path / "m" / "comparison.csv").exists()


def test_a_component_of_ones_own_is_found_in_the_working_folder(tmp_path):
    """A fresh process, because this one has imported everything already."""
    (tmp_path / "mine.py").write_text(
        "from cl_fisher.strategy.finetune import Finetune\n\n\nclass Mine(Finetune):\n    pass\n"
    )
    (tmp_path / "my_conf" / "strategy").mkdir(parents=True)
    (tmp_path / "my_conf" / "strategy" / "mine.yaml").write_text("# Mine.\n_target_: mine.Mine\nstrength: 1\n")
    command = [sys.executable, "-P", "-m", "cl_fisher", "run", "--config-dir", "my_conf", "strategy=mine", *SMALL]
    done = subprocess.run([*command, "output_dir=out"], cwd=tmp_path, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert metrics(tmp_path / "out")["strategy"] == "mine"


def test_continual_evaluation_leaves_its_table_and_the_same_network(run):
    plain, watched = run(name="a"), run("eval_every=4", "eval_samples=30", name="b")
    found = rows(watched / "continual.csv")
    assert [(r["task"], r["step"], r["global_step"], r["evaluated_task"]) for r in found] == [
        *(("1", str(s), str(s), "1") for s in (0, 4, 6)),
        *(("2", str(s), str(6 + s), str(t)) for s in (0, 4, 6) for t in (1, 2)),
    ]
    assert {r["n"] for r in found} == {"30"}
    assert metrics(watched)["stability_gap"] is not None
    assert metrics(plain)["stability_gap"] is None
    assert not (plain / "continual.csv").exists()
    a, b = (checkpoint.load(checkpoint.latest(f / "checkpoints"))["model"] for f in (plain, watched))
    assert all(torch.equal(a[name], weight) for name, weight in b.items())
    assert metrics(plain)["accuracy"] == metrics(watched)["accuracy"]


def test_costs_are_written_after_each_task(run):
    folder = run()
    found = rows(folder / "costs.csv")
    assert [(r["task"], r["extra_passes"]) for r in found] == [("1", "1.0"), ("2", "1.0")]
    assert sum(float(r["seconds_train"]) for r in found) == pytest.approx(metrics(folder)["seconds"]["train"], abs=2e-3)
    assert metrics(folder)["extra_passes"] == 2.0


def test_later_runs_find_the_references_of_earlier_ones(run, tmp_path):
    where = f"reference_dir={tmp_path / 'references'}"
    assert metrics(run(where, name="before"))["intransigence"] is None
    upper, joint = metrics(run("strategy=cumulative", where, name="c")), metrics(run("strategy=joint", where, name="j"))
    assert len(list((tmp_path / "references").iterdir())) == 2
    found = metrics(run(where, "log_every=3", name="after"))
    own, best = found["accuracy"], upper["accuracy"]
    assert found["intransigence"] == pytest.approx((best[0][0] - own[0][0] + best[1][1] - own[1][1]) / 2)
    assert found["intransigence_last"] == pytest.approx(best[1][1] - own[1][1])
    assert joint["intransigence"] is None
    assert metrics(run(where, "seed=1", name="other"))["intransigence"] is None
    assert metrics(run("reference_dir=null", name="none"))["intransigence"] is None


def test_other_data_behind_the_same_path_are_no_reference(run, tmp_path):
    own = ["dataset=arrays", f"path={tmp_path / 'own.npz'}", f"reference_dir={tmp_path / 'references'}"]
    draw = np.random.default_rng(0)

    def write():
        x, y = draw.random((80, 5), dtype=np.float32), np.arange(80) % 4
        np.savez(tmp_path / "own.npz", x_train=x, y_train=y, x_test=x, y_test=y)

    write()
    run(*own, "strategy=cumulative", name="c")
    assert metrics(run(*own, name="same"))["intransigence"] is not None
    write()
    assert metrics(run(*own, name="other"))["intransigence"] is None


@pytest.mark.parametrize(
    ("group", "kind"),
    [("model", "Module"), ("strategy", "Strategy"), ("dataset", "DataSet"), ("benchmark", "TaskSequence")],
)
def test_a_component_of_ones_own_that_makes_something_else(run, tmp_path, capsys, group, kind):
    (tmp_path / "own.py").write_text("def nothing(**_):\n    pass\n")
    run(f"{group}._target_=own.nothing", status=2)
    assert f"{group}._target_=own.nothing makes a NoneType, not a {kind}" in capsys.readouterr().err


@pytest.mark.parametrize("group", ["optimizer", "trainer"])
def test_what_is_made_later_must_be_partial(run, capsys, group):
    run(f"~{group}._partial_", status=2)
    assert f"{group}: `_partial_: true` is missing beside" in capsys.readouterr().err


def test_a_warning_is_one_line_and_said_once(tmp_path):
    """A process of its own: pytest makes errors of warnings."""
    words = ["strategy=er", "strategy.capacity=3", "scenario=class", *SMALL, "n_tasks=3", f"output_dir={tmp_path}"]
    command = [sys.executable, "-P", "-m", "cl_fisher", "run", "benchmark=split", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    wanted = "cl-fisher: warning: capacity=3 is less than the 4 classes of all tasks so far"
    assert [line for line in done.stderr.splitlines() if "capacity" in line] == [
        f"{wanted}: some have no example in memory"
    ]
