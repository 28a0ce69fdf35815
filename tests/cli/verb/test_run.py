import json
import math
import os
import pickle
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from cl_fisher.error import InputError, RunError


def test_a_run_goes_to_a_new_folder_and_gets_a_report(cli, jobs, tmp_path):
    status, out, err = cli("run", "strategy=finetune", "epochs=3", "-q")
    assert (status, out, err) == (0, "", "")
    (job,) = jobs.ran
    assert job["folder"].parent.parent == tmp_path / "outputs" / "run"
    assert job["cfg"].epochs == 3
    assert job["cfg"].verbosity == 0
    assert "hydra" not in job["cfg"]
    assert job["choices"]["strategy"] == "finetune"
    assert job["choices"]["fisher/estimator"] == "exact"
    assert "experiment" not in job["choices"]
    assert job["overrides"] == ["strategy=finetune", "epochs=3"]
    assert job["command"] == "cl-fisher run strategy=finetune epochs=3 verbosity=0"
    assert jobs.reported == [[job["folder"]]]
    assert jobs.compared == []
    assert len(jobs.checked) == 1


def test_a_second_run_in_the_same_second_gets_a_folder_of_its_own(cli, jobs):
    for _ in range(3):
        cli("run")
    assert len({job["folder"] for job in jobs.ran}) == 3


def test_output_dir_is_taken_and_the_results_are_printed(cli, jobs, tmp_path):
    status, out, _ = cli("run", "output_dir=my run/1")
    assert (status, out) == (0, "")
    assert jobs.ran[0]["folder"] == tmp_path / "my run" / "1"
    assert jobs.ran[0]["overrides"] == []
    assert jobs.compared == [[tmp_path / "my run" / "1"]]
    assert cli("run", "output_dir=my run/1")[0] == 2


def test_a_folder_may_look_like_a_number(cli, jobs, tmp_path):
    assert cli("run", "output_dir=3")[0] == 0
    assert jobs.ran[0]["folder"] == tmp_path / "3"


def test_any_folder_will_do(cli, jobs, tmp_path, monkeypatch):
    odd = tmp_path / "it's, \\ = [odd]"
    odd.mkdir()
    monkeypatch.chdir(odd)
    assert cli("run", "-q")[0] == cli("run", "-m", "seed=0,1", "-q")[0] == 0
    assert all(odd in job["folder"].parents for job in jobs.ran)


def test_flags_may_stand_between_overrides(cli, jobs):
    assert cli("run", "seed=0,1", "-m", "epochs=2", "-v", "n_tasks=3")[0] == 0
    assert [job["cfg"].verbosity for job in jobs.ran] == [2, 2]
    assert {job["cfg"].n_tasks for job in jobs.ran} == {3}


def test_a_multirun_is_listed_before_it_starts_and_compared_at_the_end(cli, jobs, tmp_path):
    listed = []

    def act(_):
        listed.append(json.loads((tmp_path / "sweep" / "multirun.json").read_text()))
        return {"status": "finished", "value": 1.0}

    jobs.act = act
    typed = ["-m", "strategy=ewc,joint", "seed=range(0,2)", "n_tasks=2", "fisher/estimator=exact"]
    status, out, err = cli("run", *typed, "output_dir=sweep")
    assert (status, out, err) == (0, "", "")
    assert listed[0] == listed[-1]
    assert listed[0]["command"] == f"cl-fisher run {shlex.join(typed)} output_dir=sweep"
    cells = listed[0]["cells"]
    assert [cell["folder"] for cell in cells] == [
        str(job["folder"].relative_to(tmp_path / "sweep")) for job in jobs.ran
    ]
    assert cells[1]["folder"] == "001_strategy=ewc,seed=1,fisher_estimator=exact,n_tasks=2"
    assert [c["overrides"] for c in cells] == [job["overrides"] for job in jobs.ran]
    assert cells[3]["choices"] == jobs.ran[3]["choices"] | {"n_tasks": 2, "seed": 1}
    names = ("strategy", "benchmark", "dataset", "scenario", "fisher/estimator")
    assert [cells[3]["choices"][name] for name in names] == ["joint", "permuted", "digits", "domain", "exact"]
    assert jobs.ran[3]["overrides"] == ["strategy=joint", "seed=1", "n_tasks=2", "fisher/estimator=exact"]
    assert jobs.ran[3]["command"] == "cl-fisher run strategy=joint seed=1 n_tasks=2 fisher/estimator=exact"
    assert jobs.reported == [[job["folder"]] for job in jobs.ran] + [[tmp_path / "sweep"]]
    assert jobs.compared == [[tmp_path / "sweep"]]
    names = [cfg.strategy._target_.rpartition(".")[2] for cfg in jobs.checked]
    assert names == ["EWC", "Joint"], "cells that only the seed tells apart are checked once"
    assert not list(tmp_path.rglob("*.log"))


def test_a_multirun_without_output_dir_lies_under_outputs(cli, jobs, tmp_path):
    assert cli("run", "-m", "seed=3,4")[0] == 0
    assert {job["folder"].parents[2] for job in jobs.ran} == {tmp_path / "outputs" / "multirun"}


def test_shuffled_cells_run_as_they_are_listed(cli, jobs, tmp_path):
    cli("run", "-m", "seed=shuffle(range(0,7))", "output_dir=s")
    cells = json.loads((tmp_path / "s" / "multirun.json").read_text())["cells"]
    assert [c["overrides"] for c in cells] == [job["overrides"] for job in jobs.ran]


def test_lists_are_values_of_a_sweep(cli, jobs):
    assert cli("run", "-m", "model.hidden=[10],[20,20]", "strategy=glob(*ewc)")[0] == 0
    assert [list(job["cfg"].model.hidden) for job in jobs.ran] == [[10], [10], [20, 20], [20, 20]]
    assert [job["choices"]["strategy"] for job in jobs.ran] == ["ewc", "online_ewc"] * 2


@pytest.mark.parametrize("swept", [("null,5", [None, 5]), ("null", [None])], ids=["of several", "alone"])
def test_null_is_a_value_of_a_sweep(cli, jobs, swept):
    typed, values = swept
    assert cli("run", "-m", f"eval_every={typed}", "seed=0")[0] == 0
    assert [job["cfg"].eval_every for job in jobs.ran] == values


def test_an_option_that_only_the_swept_choices_have(cli, jobs):
    assert cli("run", "-m", "strategy=er,derpp", "strategy.capacity=5")[0] == 0
    assert [job["cfg"].strategy.capacity for job in jobs.ran] == [5, 5]


def test_a_sweep_and_a_choice_from_a_folder_of_ones_own(cli, jobs, tmp_path):
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    lines = [
        "# @package _global_",
        "n_tasks: 3",
        "hydra:",
        "  mode: MULTIRUN",
        "  sweeper:",
        "    params:",
        "      seed: 5,6",
    ]
    (tmp_path / "mine" / "experiment" / "grid.yaml").write_text("\n".join(lines))
    status, _, err = cli("run", "--config-dir", "mine", "experiment=grid", "strategy=ewc")
    assert (status, err) == (0, "")
    assert [(job["cfg"].seed, job["cfg"].n_tasks) for job in jobs.ran] == [(5, 3), (6, 3)]
    assert f"--config-dir {tmp_path / 'mine'}" in jobs.ran[0]["command"]


def test_failed_cells_do_not_stop_the_others(cli, jobs, tmp_path):
    def act(cfg):
        if cfg.seed == 0:
            raise RunError("the loss is nan")
        if cfg.seed == 1:
            raise ZeroDivisionError("a bug")
        if cfg.seed == 2:
            return {"status": "failed", "value": None}
        return {"status": "finished", "value": None}

    jobs.act = act
    status, _, err = cli("run", "-m", "seed=0,1,2,3", "output_dir=s")
    assert status == 1
    assert [job["cfg"].seed for job in jobs.ran] == [0, 1, 2, 3]
    assert (tmp_path / "s" / "000_seed=0" / "error.txt").read_text() == "the loss is nan\n"
    assert "ZeroDivisionError: a bug" in err
    assert "Traceback" in (tmp_path / "s" / "001_seed=1" / "error.txt").read_text()
    assert not (tmp_path / "s" / "003_seed=3" / "error.txt").exists()
    assert jobs.compared == [[tmp_path / "s"]]


@pytest.mark.parametrize("how", ["raised", "returned"])
def test_an_interruption_leaves_a_report_of_what_is_there(cli, jobs, tmp_path, how):
    def act(cfg):
        if cfg.seed == 1 and how == "raised":
            raise KeyboardInterrupt
        return {"status": "interrupted" if cfg.seed == 1 else "finished", "value": 0.0}

    jobs.act = act
    status, _, err = cli("run", "-m", "seed=0,1,2", "output_dir=s")
    assert (status, err) == (130, "cl-fisher: interrupted\n")
    assert len(jobs.ran) == 2
    assert jobs.reported[-1] == [tmp_path / "s"]
    jobs.ran.clear()
    assert cli("run", "seed=1")[0] == 130


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (RunError("the loss is nan"), 1, "cl-fisher: the run failed: the loss is nan\n"),
        (InputError("a wrong thing"), 2, "cl-fisher: error: a wrong thing\n"),
    ],
)
def test_how_a_single_run_ends(cli, jobs, error, status, line):
    def act(_):
        raise error

    jobs.act = act
    assert cli("run") == (status, "", line)


def test_a_failed_status_is_exit_1(cli, jobs):
    jobs.act = lambda _: {"status": "failed", "value": None, "error": "the loss is nan"}
    assert cli("run") == (1, "", "cl-fisher: the run failed: the loss is nan\n")


def test_a_programming_error_keeps_its_traceback(cli, jobs):
    def act(_):
        raise ZeroDivisionError("a bug")

    jobs.act = act
    with pytest.raises(ZeroDivisionError):
        cli("run")


def test_a_report_that_fails_costs_a_warning(cli, jobs):
    def write(_):
        raise OSError("disk full")

    jobs.write = write
    status, _, err = cli("run", "output_dir=r")
    assert status == 1
    assert "warning: no report for" in err
    assert "disk full" in err
    assert Path("r/metrics.json").exists()


def test_an_error_of_the_thorough_check_creates_nothing(cli, tmp_path, monkeypatch):
    def check(_):
        raise InputError("no such data")

    monkeypatch.setattr(sys.modules["cl_fisher.cli.job"], "check", check)
    assert cli("run", "-m", "seed=0,1") == (2, "", "cl-fisher: error: no such data\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--cfg", "job"], "seed: 4"),
        (["--cfg", "job", "--resolve", "-p", "strategy"], "_target_: cl_fisher.strategy.ewc.EWC"),
        (["--cfg", "hydra"], "override_dirname"),
        (["--info", "searchpath"], "command-line"),
        (["--info", "defaults"], "strategy/ewc"),
        (["--hydra-help"], "Hydra (1."),
    ],
)
def test_flags_of_hydra(cli, jobs, tmp_path, flags, expected):
    (tmp_path / "mine").mkdir()
    status, out, err = cli("run", "--config-dir", "mine", "seed=4", *flags)
    assert (status, err) == (0, "")
    assert expected in out
    assert jobs.ran == []
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def test_cells_can_be_sent_to_other_processes(tmp_path):
    """A launcher pickles the task; a fresh process must then know how Hydra names a cell's folder."""
    from cl_fisher.cli.task import run_cell

    (tmp_path / "task.pickle").write_bytes(pickle.dumps(partial(run_cell, flags=("-cn", "config"))))
    code = (
        "import pickle, sys; from omegaconf import OmegaConf; pickle.load(open('task.pickle', 'rb'));"
        "print(OmegaConf.create({'x': '${cl_fisher.cell:7,[seed]}'}).x, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "007_seed False\n"


def test_a_sweeper_that_makes_up_its_cells(cli, tmp_path, monkeypatch):
    """It gets each cell's value; cells are validated as they start and listed at the end."""
    package = tmp_path / "plugin" / "hydra_plugins" / "made_up"
    package.mkdir(parents=True)
    source = """
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper

VALUES = []

class MadeUp(Sweeper):
    def setup(self, *, hydra_context, task_function, config):
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments):
        for number, seed in enumerate([7, -1]):
            (job,) = self.launcher.launch([[f"seed={seed}"]], initial_job_idx=number)
            VALUES.append(job.return_value)

ConfigStore.instance().store(group="hydra/sweeper", name="made_up", node={"_target_": f"{__name__}.MadeUp"})
"""
    (package / "made_up.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path / "plugin"))
    made_up = __import__("hydra_plugins.made_up.made_up", fromlist=["VALUES"])
    from hydra.core.plugins import Plugins

    Plugins.instance().register(made_up.MadeUp)
    status, _, err = cli("run", "-m", "hydra/sweeper=made_up", "seed=interval(0,1)", "output_dir=s")
    assert status == 1
    assert "seed=-1 is out of range" in err
    assert made_up.VALUES[0] == 0.7
    assert math.isnan(made_up.VALUES[1])
    cells = json.loads((tmp_path / "s" / "multirun.json").read_text())["cells"]
    assert cells == [{"folder": "000_seed=7", "overrides": ["seed=7"]}]


def test_help_says_what_can_be_typed(cli):
    status, out, _ = cli("run", "--help")
    assert status == 0
    for text in (
        "outputs/run/",
        "er, ewc*, finetune",
        "n_tasks=5",
        "optimizer steps per task",
        "--cfg job",
        "+trainer.",
    ):
        assert text in out


def test_a_reader_that_leaves_early_is_no_error():
    pipe = f"{sys.executable} -m cl_fisher list | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", pipe], capture_output=True, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}
    )
    assert done.stderr == ""
    assert done.stdout.startswith("benchmark")
    assert done.stdout.splitlines()[-1] in ("0", "141")
