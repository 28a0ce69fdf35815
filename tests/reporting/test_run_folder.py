import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from cl_fisher.error import InputError
from cl_fisher.event import Consolidated, Evaluated, Probed, RunEnded, StepTaken
from cl_fisher.reporting import run_folder
from cl_fisher.reporting.run_folder import RunFolder, Table, pretty


def tell(listener, events):
    for event in events:
        listener.handle(event)


def rows(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def metrics(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


def test_whole_run(tmp_path, events):
    tell(RunFolder(tmp_path / "a" / "b"), events)
    folder = tmp_path / "a" / "b"
    assert {path.name for path in folder.iterdir()} == {
        *("config.yaml", "metrics.json"),
        *("accuracy.csv", "validation.csv", "steps.csv", "fisher.csv"),
    }
    assert rows(folder / "accuracy.csv") == [
        ["after_task", "task", "accuracy", "n"],
        *(["0", "1", "0.1", "50"], ["0", "2", "", "40"]),
        *(["1", "1", "0.9", "50"], ["1", "2", "", "40"]),
        *(["2", "1", "0.8", "50"], ["2", "2", "0.7", "40"]),
    ]
    assert rows(folder / "steps.csv")[0] == ["task", "epoch", "step", "global_step", "loss", "penalty"]
    assert rows(folder / "steps.csv")[3] == ["2", "1", "1", "3", "0.75", "0.25"]
    assert rows(folder / "fisher.csv") == [
        ["task", "estimator", "structure", "samples", "seconds", "bytes", "trace", "global_step"],
        ["1", "exact", "diagonal", "90", "0.5", "40", "1.5", "2"],
        ["2", "exact", "diagonal", "90", "0.5", "40", "3.0", "4"],
    ]
    assert len(rows(folder / "validation.csv")) == 5
    assert metrics(folder) == dict(events[-1].summary)


def test_config_keeps_order_and_types(tmp_path, events):
    tell(RunFolder(tmp_path), events[:1])
    text = (tmp_path / "config.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text) == events[0].config
    assert list(yaml.safe_load(text)) == list(events[0].config)
    assert "ö" in text


def test_metrics_before_the_first_task_is_over(tmp_path, events):
    tell(RunFolder(tmp_path), events[:4])
    start = metrics(tmp_path)
    assert (start["final"], start["status"], start["strategy"], start["n_tasks"]) == (False, "running", "ewc", 2)
    assert start["accuracy"] == []
    assert start["avg_accuracy"] is None


def test_nothing_is_lost_while_running(tmp_path, events, monkeypatch):
    monkeypatch.setattr(run_folder, "FLUSH_SECONDS", 0.0)
    folder = RunFolder(tmp_path)
    for event in events[:4]:
        folder.handle(event)
    assert len(rows(tmp_path / "steps.csv")) == 2
    assert len(rows(tmp_path / "accuracy.csv")) == 3


def test_steps_wait_for_a_second_or_another_event(tmp_path, events, monkeypatch):
    folder = RunFolder(tmp_path)
    clock = folder._tables["steps"]._flushed
    monkeypatch.setattr(run_folder.time, "monotonic", lambda: clock)
    tell(folder, events[:5])
    assert not (tmp_path / "steps.csv").exists()
    tell(folder, events[5:6])
    assert len(rows(tmp_path / "steps.csv")) == 3


def test_failure_keeps_what_was_measured(tmp_path, failed):
    tell(RunFolder(tmp_path), failed)
    end = metrics(tmp_path)
    assert (end["final"], end["status"], end["error"]) == (False, "failed", "the loss is not finite")
    assert end["accuracy"] == [[0.9, None]]
    assert len(rows(tmp_path / "steps.csv")) == 4


def test_resume_continues_without_duplicates(tmp_path, events, resumed, failed):
    tell(RunFolder(tmp_path / "whole"), events)
    first = RunFolder(tmp_path / "cut")
    tell(first, failed[:9])
    state = first.state_dict()
    tell(first, failed[9:])
    second = RunFolder(tmp_path / "cut")
    second.load_state_dict(state)
    tell(second, resumed[:1])
    assert metrics(tmp_path / "cut")["accuracy"] == [[0.9, None]]
    assert metrics(tmp_path / "cut")["status"] == "running"
    assert metrics(tmp_path / "cut")["error"] == ""
    tell(second, resumed[1:])
    for name in ("accuracy.csv", "validation.csv", "steps.csv", "fisher.csv"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert {**metrics(tmp_path / "whole"), "started": 0} == {**metrics(tmp_path / "cut"), "started": 0}


def test_a_new_run_does_not_append_to_an_old_one(tmp_path, events):
    for _ in range(2):
        tell(RunFolder(tmp_path), events)
    assert len(rows(tmp_path / "steps.csv")) == 5
    assert len(rows(tmp_path / "accuracy.csv")) == 7


def test_state_of_another_folder_does_not_pad_files(tmp_path, events):
    first = RunFolder(tmp_path / "a")
    tell(first, events)
    branch = RunFolder(tmp_path / "b")
    branch.load_state_dict(first.state_dict())
    assert not (tmp_path / "b" / "steps.csv").exists()


def test_undefined_numbers_become_null(tmp_path, events):
    odd = {"forgetting": math.nan, "seconds": {"train": math.inf}, "accuracy": ((0.5, math.nan),)}
    tell(RunFolder(tmp_path), [events[0], RunEnded("finished", 1, odd)])
    end = metrics(tmp_path)
    assert end["forgetting"] is None
    assert end["seconds"] == {"train": None}
    assert end["accuracy"] == [[0.5, None]]
    assert end["final"] is True


def test_no_validation_examples_no_file(tmp_path, events):
    tell(RunFolder(tmp_path), [events[0], Evaluated(1, 2, "validation", (None, None), (0, 0))])
    assert not (tmp_path / "validation.csv").exists()


def test_columns_are_those_of_the_first_row(tmp_path, events):
    later = Consolidated(2, 4, {"trace": 2.0, "surprise": 1})
    tell(RunFolder(tmp_path), [events[0], events[5], later])
    assert rows(tmp_path / "fisher.csv")[2] == ["2", "", "", "", "", "", "2.0", "4"]
    tell(RunFolder(tmp_path), [replace(events[0], resumed_from=1), later])
    assert rows(tmp_path / "fisher.csv")[3] == ["2", "", "", "", "", "", "2.0", "4"]


def test_interrupted_write_leaves_the_old_file(tmp_path, events, monkeypatch):
    folder = RunFolder(tmp_path)
    tell(folder, events[:9])
    before = (tmp_path / "metrics.json").read_bytes()

    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(run_folder.os, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        tell(folder, events[15:16])
    assert (tmp_path / "metrics.json").read_bytes() == before


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write to the run folder .*file.run .*output_dir"):
        RunFolder(tmp_path / "file" / "run")


def test_one_matrix_row_a_line():
    value = {"a": [[0.5, None], [1.0, 0.25]], "b": {"c": [1, 2]}, "d": {}, "e": []}
    assert json.loads(pretty(value)) == value
    assert pretty(value).splitlines() == [
        "{",
        '  "a": [',
        "    [0.5, null],",
        "    [1.0, 0.25]",
        "  ],",
        '  "b": {',
        '    "c": [1, 2]',
        "  },",
        '  "d": {},',
        '  "e": []',
        "}",
    ]


def test_text_with_commas_survives(tmp_path):
    table = Table(tmp_path / "x.csv")
    table.append(("a", "b"), ("1,2", 'say "x"'))
    table.flush()
    assert rows(tmp_path / "x.csv")[1] == ["1,2", 'say "x"']


def test_a_step_is_cheap(tmp_path, events, monkeypatch):
    opened = []
    original = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *a, **k: opened.append(self) or original(self, *a, **k))
    folder = RunFolder(tmp_path)
    tell(folder, events[:3])
    clock = folder._tables["steps"]._flushed
    monkeypatch.setattr(run_folder.time, "monotonic", lambda: clock)
    opened.clear()
    for step in range(1000):
        folder.handle(replace(StepTaken(1, 1, 1, 1, 0.5, 0.0), step=step))
    assert opened == []


PROBED = [Probed(1, 0, 0, (0.1,), (50,)), Probed(1, 2, 2, (0.9,), (50,)), Probed(2, 0, 2, (0.9, None), (50, 40))]
COSTS = {"seconds_train": 1.5, "extra_passes": 2.0}


def test_continual_evaluation_and_costs(tmp_path, events):
    tell(RunFolder(tmp_path), [events[0], *PROBED, replace(events[8], costs=COSTS)])
    assert rows(tmp_path / "continual.csv") == [
        ["task", "step", "global_step", "evaluated_task", "accuracy", "n"],
        *(["1", "0", "0", "1", "0.1", "50"], ["1", "2", "2", "1", "0.9", "50"]),
        *(["2", "0", "2", "1", "0.9", "50"], ["2", "0", "2", "2", "", "40"]),
    ]
    assert rows(tmp_path / "costs.csv") == [["task", "seconds_train", "extra_passes"], ["1", "1.5", "2.0"]]


def test_a_resumed_run_drops_what_will_be_measured_again(tmp_path, events):
    folder = RunFolder(tmp_path)
    tell(folder, [events[0], *PROBED[:2], replace(events[8], costs=COSTS)])
    state = folder.state_dict()
    tell(folder, [PROBED[2], replace(events[15], costs=COSTS)])
    again = RunFolder(tmp_path)
    again.load_state_dict(state)
    tell(again, [replace(events[0], resumed_from=1), PROBED[2], replace(events[15], costs=COSTS)])
    assert [row[0] for row in rows(tmp_path / "continual.csv")] == ["task", "1", "1", "2", "2"]
    assert [row[0] for row in rows(tmp_path / "costs.csv")] == ["task", "1", "2"]
