import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cl_fisher.error import InputError
from cl_fisher.event import Consolidated, Evaluated, RunEnded, RunStarted, StepTaken, TaskEnded
from cl_fisher.reporting.read import read_run, read_source
from cl_fisher.reporting.run_folder import RunFolder

Write = Callable[..., Path]


def test_reads_a_finished_run(run_folder: Write) -> None:
    source = read_source(run_folder("ewc", 1))
    (run,) = source.runs
    assert not source.is_multirun
    assert source.command == "cl-fisher run strategy=ewc seed=1"
    assert (run.status, run.seed, run.strategy, run.error) == ("finished", "1", "ewc", "")
    assert run.number("seconds.total") == 13.0
    assert run.config["strategy"] == {"strength": 100}
    assert len(run.steps) == 200
    assert list(run.fisher["trace"]) == [4, 5, 6, 7, 8]
    assert list(run.accuracy["after_task"].unique()) == [0, 1, 2, 3, 4, 5]
    assert run.settings == {"strategy": "ewc", "seed": "1"}


def test_joint_has_one_row_that_comes_after_all_tasks(run_folder: Write) -> None:
    assert list(read_run(run_folder("joint")).matrix()) == [5]


@pytest.mark.parametrize("without", [None, "accuracy.csv"])
def test_an_unfinished_run_with_one_row_was_evaluated_after_task_1(run_folder: Write, without: str | None) -> None:
    folder = run_folder("ewc", status="interrupted", accuracy=[[0.9, 0.1, 0.1, 0.1, 0.1]])
    if without:
        (folder / without).unlink()
    run = read_run(folder)
    assert not run.is_joint
    assert list(run.matrix()) == list(run.matrix("validation")) == [1]


@pytest.mark.parametrize(
    ("strategy", "after", "n_tasks", "joint"),
    [
        ("joint", 5, 5, True),
        ("my_joint", 5, 5, True),  # somebody's own strategy that trains on all tasks at once
        ("joint", None, 5, True),  # no accuracy.csv
        ("ewc", None, 5, False),
        ("ewc", 1, 5, False),
        ("ewc", 1, 1, False),
    ],
)
def test_joint_training_is_known_by_what_it_was_evaluated_after(
    run_folder: Write, strategy: str, after: int | None, n_tasks: int, joint: bool
) -> None:
    folder = run_folder(strategy, n_tasks=n_tasks, accuracy=[[0.9] * n_tasks])
    rows = [f"{row},{task},0.9,72" for row in (0, after) for task in range(1, n_tasks + 1)]
    (folder / "accuracy.csv").write_text("\n".join(["after_task,task,accuracy,n", *rows]))
    if after is None:
        (folder / "accuracy.csv").unlink()
    assert read_run(folder).is_joint is joint
    assert list(read_run(folder).matrix()) == [n_tasks if joint else 1]


@pytest.mark.parametrize("value", [None, float("nan"), "0.5", True, [1]])
def test_what_is_no_finite_number_is_undefined(run_folder: Write, value: object) -> None:
    assert read_run(run_folder(avg_accuracy=value)).number("avg_accuracy") is None


def test_undefined_accuracies_stay_undefined(run_folder: Write) -> None:
    run = read_run(run_folder(accuracy=[[0.9, None], [0.8, 0.7]]))
    assert run.matrix() == {1: [0.9, None], 2: [0.8, 0.7]}
    assert run.accuracy.set_index(["after_task", "task"])["accuracy"].isna().sum() == 1


def test_a_torn_last_line_is_left_out_and_the_last_of_repeated_steps_counts(run_folder: Write) -> None:
    folder = run_folder()
    with (folder / "steps.csv").open("a") as file:
        file.write("5,1,40,200,0.125,0\n5,1")
    steps = read_run(folder).steps
    assert len(steps) == 200
    assert steps["loss"].iloc[-1] == 0.125


def test_files_that_are_not_there_or_empty_are_empty_frames(run_folder: Write) -> None:
    folder = run_folder()
    for name in ("steps.csv", "accuracy.csv", "fisher.csv", "config.yaml"):
        (folder / name).unlink()
    (folder / "steps.csv").touch()
    run = read_run(folder)
    assert run.steps.empty
    assert run.accuracy.empty
    assert run.fisher.empty
    assert run.config == {}


def test_multirun_names_missing_and_failed_cells(multirun_folder: Write) -> None:
    folder = multirun_folder([("ewc", 0), ("ewc", 1)], absent=[("ewc", 1)], status="failed", final=False, error="boom")
    source = read_source(folder)
    assert source.is_multirun
    assert [run.status for run in source.runs] == ["failed", "missing"]
    assert source.runs[0].error == "boom"
    assert (source.runs[1].seed, source.runs[1].strategy) == ("1", "ewc")


def test_a_run_that_ended_before_its_first_metrics_is_missing(run_folder: Write) -> None:
    folder = run_folder()
    (folder / "metrics.json").unlink()
    assert read_source(folder).runs[0].status == "missing"


def test_no_run_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere is no run folder: it does not exist; give .*outputs/run/DATE/TIME"):
        read_source(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"neither metrics\.json nor multirun.json"):
        read_source(tmp_path)


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_broken_json_is_named(run_folder: Write, content: str) -> None:
    folder = run_folder()
    (folder / "metrics.json").write_text(content)
    with pytest.raises(InputError, match=r"metrics\.json"):
        read_source(folder)


def test_a_multirun_without_cells_is_named(tmp_path: Path) -> None:
    (tmp_path / "multirun.json").write_text('{"command": "x", "cells": []}')
    with pytest.raises(InputError, match="lists no cells"):
        read_source(tmp_path)


@pytest.mark.parametrize(
    ("cells", "problem"),
    [
        ([{}], "cell 0 .* 'folder'"),
        ([{"folder": "a", "overrides": []}, {"folder": "b"}], "cell 1 .* 'overrides'"),
        ([{"folder": 3, "overrides": []}], "'folder'"),
        ([{"folder": "a", "overrides": "seed=0"}], "'overrides'"),
        ([{"folder": "a", "overrides": [1]}], "'overrides'"),
        ([{"folder": "a", "overrides": [], "choices": "ewc"}], "'choices'"),
        (["a"], "cell 0"),
        ({"a": 1}, "cell 0"),
        ("a", "cell 0"),
    ],
)
def test_a_broken_multirun_is_named_in_one_line(tmp_path: Path, cells: object, problem: str) -> None:
    (tmp_path / "multirun.json").write_text(json.dumps({"command": "x", "cells": cells}))
    with pytest.raises(InputError, match=rf"multirun\.json is broken: .*{problem}") as caught:
        read_source(tmp_path)
    assert "\n" not in str(caught.value)


def test_metrics_that_lack_what_every_run_writes_are_named(run_folder: Write) -> None:
    folder = run_folder()
    (folder / "metrics.json").write_text('{"loss": 1}')
    with pytest.raises(InputError, match=r"metrics\.json lacks status, n_tasks, accuracy") as caught:
        read_source(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "broken",
    [
        {"accuracy": 3},
        {"accuracy": [0.5]},
        {"accuracy": [["a"]]},
        {"accuracy": [[]]},
        {"accuracy": [[0.1, 0.2], [0.1]]},
        {"validation": 3},
        {"validation": {"accuracy": "x"}},
        {"n_tasks": "5"},
        {"overrides": "seed=0"},
        {"overrides": [0]},
        {"versions": [1]},
        {"seconds": 3},
    ],
)
def test_metrics_of_another_kind_are_named(run_folder: Write, broken: dict[str, object]) -> None:
    folder = run_folder()
    metrics = json.loads((folder / "metrics.json").read_text()) | broken
    (folder / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(InputError, match=rf"metrics\.json is broken: '{next(iter(broken))}"):
        read_source(folder)


def test_a_broken_config_is_named(run_folder: Write) -> None:
    folder = run_folder()
    (folder / "config.yaml").write_text("a: [")
    with pytest.raises(InputError, match=r"config\.yaml"):
        _ = read_source(folder).runs[0].config


def test_reads_what_the_run_folder_writes(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    config = {"seed": 3, "strategy": {"strength": 100}}
    choices = {"strategy": "ewc", "benchmark": "permuted", "dataset": "digits", "scenario": "domain"}
    folder.handle(RunStarted(2, 2, config, choices, ("strategy=ewc", "seed=3"), "cl-fisher run seed=3"))
    assert read_run(folder.path).status == "running"
    folder.handle(Evaluated(0, 0, "test", (0.1, None), (10, 10)))
    folder.handle(StepTaken(1, 1, 1, 1, 2.5, 0.0))
    folder.handle(Consolidated(1, 1, {"estimator": "exact", "samples": 20, "trace": 4.5}))
    folder.handle(Evaluated(1, 1, "test", (0.9, 0.2), (10, 10)))
    folder.handle(TaskEnded(1, 1, {"avg_accuracy": 0.55, "accuracy": [[0.9, 0.2]]}))
    folder.handle(RunEnded("failed", 1, {}, "boom"))
    run = read_run(folder.path)
    assert (run.status, run.error, run.seed, run.strategy) == ("failed", "boom", "3", "ewc")
    assert run.overrides == ("strategy=ewc", "seed=3")
    assert run.choices == choices
    assert run.matrix() == {1: [0.9, 0.2]}
    assert run.accuracy["accuracy"].isna().sum() == 1
    assert run.steps.to_dict("records")[0]["loss"] == 2.5
    assert run.fisher.to_dict("records") == [
        {"task": 1, "estimator": "exact", "samples": 20, "trace": 4.5, "global_step": 1}
    ]
    assert run.config == config
