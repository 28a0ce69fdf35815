"""Data sets of benchmark=sequence: one by one, not by dataset=..."""

import json

import pytest

PICK = "dataset@benchmark.datasets."


def test_a_sequence_is_as_long_as_its_data_sets_are_many(cli, jobs):
    status, _, error = cli(
        "run", "benchmark=sequence", "scenario=task", f"{PICK}task1=digits", f"+{PICK}task3=digits", f"~{PICK}task2"
    )
    assert (status, error) == (0, "")
    (ran,) = jobs.ran
    assert list(ran["cfg"].benchmark.datasets) == ["task1", "task3"]
    assert ran["cfg"].n_tasks == 2
    assert {ran["choices"][f"{PICK}{name}"] for name in ("task1", "task3")} == {"digits"}


def test_they_can_be_swept(cli, jobs, tmp_path):
    sweep = [f"{PICK}task2=digits,mnist", "n_tasks=1,2", f"output_dir={tmp_path}/s"]
    assert cli("run", "-m", "benchmark=sequence", *sweep)[0] == 0
    assert [ran["cfg"].n_tasks for ran in jobs.ran] == [1, 2, 1, 2]
    choices = [cell["choices"] for cell in json.loads((tmp_path / "s" / "multirun.json").read_text())["cells"]]
    assert [chosen["n_tasks"] for chosen in choices] == [1, 2, 1, 2]
    assert [chosen["dataset"] for chosen in choices] == ["mnist", "mnist → digits", "mnist", "mnist → mnist"]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["dataset=mnist"], f"write {PICK}task1=mnist"),
        (
            ["n_tasks=3"],
            f"n_tasks=3 is more than the 2 data sets of benchmark=sequence; one more is added with +{PICK}",
        ),
        ([f"~{PICK}task1", f"~{PICK}task2"], "more than the 0 data sets"),
        (["benchmark.datasets.task1.name=ENMIST"], "ENMIST is not one of MNIST"),
        ([f"+{PICK}task3=digit"], "did you mean 'digits'"),
        (["~dataset"], "a run needs dataset"),
    ],
)
def test_what_cannot_be_meant(cli, jobs, overrides, words):
    status, _, error = cli("run", "benchmark=sequence", *overrides)
    assert status == 2
    assert words in error
    assert error.count("\n") == 1
    assert not jobs.ran
