from collections.abc import Callable
from pathlib import Path

import pytest

from cl_fisher.reporting.aggregate import Estimate, group_runs
from cl_fisher.reporting.read import Run, read_run, read_source

Write = Callable[..., Path]


def test_interval_is_students() -> None:
    # t(0.975, 2 degrees of freedom) = 4.302653 (tables); standard deviation of 1, 2, 3 is 1
    estimate = Estimate((1.0, 2.0, 3.0))
    assert estimate.mean == 2.0
    assert estimate.half_width == pytest.approx(4.302653 / 3**0.5, abs=1e-6)


@pytest.mark.parametrize(("values", "mean"), [((), None), ((0.5,), 0.5)])
def test_fewer_than_two_values_have_no_interval(values: tuple[float, ...], mean: float | None) -> None:
    assert Estimate(values).mean == mean
    assert Estimate(values).half_width is None


def test_groups_average_over_seeds(multirun_folder: Write) -> None:
    groups = group_runs(read_source(multirun_folder()).runs)
    assert [group.label for group in groups] == ["finetune", "ewc", "joint"]
    # ewc ends at 0.80, 0.81, 0.82 on tasks 1-4 and at 0.96, 0.95, 0.94 on task 5
    assert groups[1].matrix()[5] == pytest.approx([0.81] * 4 + [0.95])
    assert groups[1].course().loc[5].tolist() == pytest.approx([0.81] * 4 + [0.95])
    assert groups[1].course().loc[0].tolist() == pytest.approx([0.1] * 5)
    assert groups[2].estimate("avg_accuracy").values == pytest.approx((0.95, 0.96, 0.97))
    assert groups[2].estimate("forgetting").n == 0


def test_only_finished_runs_count(multirun_folder: Write) -> None:
    folder = multirun_folder([("ewc", 0), ("ewc", 1)], absent=[("ewc", 1)], status="interrupted", final=False)
    (group,) = group_runs(read_source(folder).runs)
    assert len(group.runs) == 2
    assert group.counted == ()
    assert group.matrix() == {}
    assert group.course().empty


def test_cells_that_never_began_are_grouped_by_what_was_planned(multirun_folder: Write) -> None:
    cells = [("ewc", 0), ("ewc", 1)]
    folder = multirun_folder(cells, absent=[("ewc", 1)], typed=False, status="interrupted", final=False)
    (group,) = group_runs(read_source(folder).runs)
    assert (group.label, group.strategy) == ("ewc", "ewc")
    assert [(run.status, run.seed) for run in group.runs] == [("interrupted", "0"), ("missing", "1")]


def test_cells_that_never_began_stay_together_where_another_folder_varies_the_scenario(
    multirun_folder: Write, run_folder: Write
) -> None:
    folder = multirun_folder([("ewc", 0), ("ewc", 1)], absent=[("ewc", 1)], typed=False)
    other = run_folder(scenario="task", overrides=["scenario=task"])
    groups = group_runs([*read_source(folder).runs, read_run(other)])
    assert [group.label for group in groups] == ["ewc, scenario=domain", "ewc, scenario=task"]


def test_a_multirun_of_an_older_version_has_no_choices(multirun_folder: Write) -> None:
    folder = multirun_folder([("ewc", 0)], absent=[("ewc", 0)])
    assert [group.label for group in group_runs(read_source(folder).runs)] == ["ewc"]


def test_a_single_run_counts_however_far_it_came(run_folder: Write) -> None:
    (group,) = group_runs([read_run(run_folder(status="running", final=False))])
    assert len(group.counted) == 1


def test_a_repeated_seed_counts_once(run_folder: Write) -> None:
    runs = [read_run(run_folder(name="first", avg_accuracy=0.1)), read_run(run_folder(name="second", avg_accuracy=0.3))]
    (group,) = group_runs(runs)
    assert group.estimate("avg_accuracy").values == (0.3,)
    assert group.repeated == (runs[0],)


def run(*overrides: str, config: str = "", folder: Path = Path("absent")) -> Run:
    if config:
        folder.mkdir()
        (folder / "config.yaml").write_text(config)
    return Run(folder, overrides, {"strategy": "ewc", "scenario": "domain"})


@pytest.mark.parametrize(
    ("overrides", "labels"),
    [
        ([["strategy=ewc", "seed=0", "epochs=3"], ["strategy=joint", "seed=0", "epochs=3"]], ["ewc", "joint"]),
        ([["scenario=task", "seed=0"], ["scenario=domain", "seed=0"]], ["ewc, scenario=task", "ewc, scenario=domain"]),
        ([["scenario=task"], []], ["ewc, scenario=task", "ewc, scenario=domain"]),
        ([["scenario=domain"], []], ["ewc"]),
        ([["lr=1e-3"], ["lr=0.001"]], ["ewc"]),
        ([["a=12345678"], ["a=12345679"]], ["ewc, a=12345678", "ewc, a=12345679"]),
        ([["+flag=true"], ["flag=false"]], ["ewc, flag=true", "ewc, flag=false"]),
    ],
)
def test_labels_name_what_varies(overrides: list[list[str]], labels: list[str]) -> None:
    assert [group.label for group in group_runs([run(*o) for o in overrides])] == labels


@pytest.mark.parametrize(
    ("config", "same", "other"),
    [
        ("hidden: [16, 16]", "hidden=[16,16]", "hidden=[16]"),
        ("lr: [0.001, 'a b']", "lr=[1e-3, a b]", "lr=[]"),
        ("group: null", "group=null", "group=g"),
        ("flag: true", "flag=True", "flag=FALSE"),
    ],
)
def test_what_was_typed_is_what_is_meant(tmp_path: Path, config: str, same: str, other: str) -> None:
    """One run has by default what another one was told to have."""
    default = run(config=f"model:\n  {config}\n", folder=tmp_path / "run")
    groups = group_runs([default, run(f"model.{same}"), run(f"model.{other}")])
    assert [len(group.runs) for group in groups] == [2, 1]
    assert all(", model." in group.label for group in groups)


def test_a_strategy_without_the_key_has_no_value(tmp_path: Path) -> None:
    joint = run(config="strategy:\n  joint: {}\n", folder=tmp_path / "run")
    assert [g.label for g in group_runs([joint, run("strategy.strength=null")])] == [
        "ewc",
        "ewc, strategy.strength=null",
    ]


def test_a_default_is_looked_up_in_the_configuration(tmp_path: Path) -> None:
    default = run(config="strategy:\n  strength: 100\n  flag: true\n", folder=tmp_path / "run")
    typed = run("strategy.strength=100", "strategy.flag=true")
    other = run("strategy.strength=3", "strategy.flag=true")
    labels = [group.label for group in group_runs([default, typed, other])]
    assert labels == ["ewc, strategy.strength=100", "ewc, strategy.strength=3"]


def recorded(*overrides: str, choices: dict[str, str] | None = None, **metrics: object) -> Run:
    known = {"strategy": "ewc", "benchmark": "sequence", "dataset": "mnist", "scenario": "domain", "n_tasks": 2}
    return Run(Path("absent"), overrides, known | metrics, choices or {})


PICK = "dataset@benchmark.datasets.task"


@pytest.mark.parametrize(
    ("runs", "labels"),
    [
        ([recorded(), recorded(n_tasks=3)], ["ewc, n_tasks=2", "ewc, n_tasks=3"]),
        (
            [recorded(f"~{PICK}1", dataset="a → b"), recorded(f"~{PICK}2", dataset="b → b")],
            ["ewc, dataset=a → b", "ewc, dataset=b → b"],
        ),
        (
            [recorded("experiment=a", benchmark="split"), recorded("experiment=b", benchmark="rotated")],
            ["ewc, experiment=a", "ewc, experiment=b"],
        ),
        (
            [recorded("experiment=a"), recorded("experiment=b", n_tasks=3), recorded("experiment=b", n_tasks=4)],
            ["ewc, experiment=a, n_tasks=2", "ewc, experiment=b, n_tasks=3", "ewc, experiment=b, n_tasks=4"],
        ),
        (
            [recorded(f"~{PICK}2"), recorded(choices={f"{PICK}2": "digits"}, dataset="mnist → digits")],
            ["ewc", f"ewc, {PICK}2=digits"],
        ),
    ],
)
def test_runs_on_other_tasks_are_no_seeds_of_one_setting(runs: list[Run], labels: list[str]) -> None:
    """Whatever was typed; the label says how the tasks differ only where what was typed does not."""
    assert [group.label for group in group_runs(runs)] == labels


def test_what_was_taken_out_is_not_what_is_there_by_default(tmp_path: Path) -> None:
    default = run(config="optimizer:\n  weight_decay: 0.5\n", folder=tmp_path / "run")
    groups = group_runs([run("~optimizer.weight_decay"), default])
    assert [group.label for group in groups] == ["ewc", "ewc, optimizer.weight_decay=0.5"]


@pytest.mark.parametrize("typed", ["model=mlp", "fisher/structure=diagonal", "+model=mlp"])
def test_a_choice_that_was_typed_is_the_same_by_default(typed: str) -> None:
    choices = {"model": "mlp", "fisher/structure": "diagonal"}
    default, other = recorded(choices=choices), recorded("model=cnn", choices=choices | {"model": "cnn"})
    (group,) = group_runs([default, recorded(typed, choices=choices)])
    assert len(group.runs) == 2
    assert len(group_runs([default, recorded(typed, choices=choices), other])) == 2


def test_a_cell_that_never_began_is_of_the_group_whose_tasks_it_was_planned_for(
    multirun_folder: Write, run_folder: Write
) -> None:
    """An old multirun does not say how many tasks its cells have."""
    folder = multirun_folder([("ewc", 0), ("ewc", 1)], absent=[("ewc", 0)], typed=False)
    groups = group_runs([*read_source(folder).runs, read_run(run_folder(n_tasks=7))])
    assert [[run.status for run in group.runs] for group in groups] == [["missing", "finished"], ["finished"]]
