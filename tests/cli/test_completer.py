import os
import subprocess
import sys
from argparse import Namespace

import pytest

from cl_fisher.cli.completer import complete_group, complete_override
from cl_fisher.config import conf_dir

STRATEGIES = sorted(path.stem for path in (conf_dir() / "strategy").glob("*.yaml"))


@pytest.mark.parametrize(
    ("typed", "prefix", "offers"),
    [
        ([], "strat", ["strategy="]),
        (
            [],
            "fisher",
            [
                *(f"fisher/{group}=" for group in ("estimator", "likelihood", "structure")),
                *(f"fisher.{key}=" for key in ("samples", "until", "check", "sampling")),
            ],
        ),
        ([], "n_t", ["n_tasks="]),
        ([], "strategy.s", ["strategy.strength=", "strategy.step="]),
        ([], "fisher.e", []),
        (["fisher/estimator=signs"], "fisher.estimator.", ["fisher.estimator.samples="]),
        ([], "trainer.precision=6", ["trainer.precision=64-true", "trainer.precision=64"]),
        ([], "strategy.g", []),
        (["strategy=online_ewc"], "strategy.g", ["strategy.gamma="]),
        ([], "strategy=ew", ["strategy=ewc"]),
        ([], "strategy=ewc,", [f"strategy=ewc,{choice}" for choice in STRATEGIES if choice != "ewc"]),
        ([], "checkpoint=", ["checkpoint=last", "checkpoint=all", "checkpoint=none"]),
        ([], "loader.in_memory=", ["loader.in_memory=auto", "loader.in_memory=true", "loader.in_memory=false"]),
        (["scenario=class"], "scenario.head=", [f"scenario.head={head}" for head in ("growing", "full", "separate")]),
        ([], "benchmark.identity_first=", ["benchmark.identity_first=true", "benchmark.identity_first=false"]),
        ([], "seed=", []),
        (["experiment=online"], "experiment.", []),
        ([], "~strat", ["~strategy="]),
    ],
)
def test_what_is_offered(typed, prefix, offers):
    assert complete_override(prefix, Namespace(overrides=typed)) == offers


def test_groups():
    assert complete_group("fisher/e") == ["fisher/estimator"]


def test_choices_of_ones_own_folder(tmp_path):
    (tmp_path / "strategy").mkdir()
    (tmp_path / "strategy" / "hope.yaml").write_text("# Hope.\nstrength: 0\n")
    assert complete_override("strategy=h", Namespace(overrides=[], config_dir=str(tmp_path))) == ["strategy=hope"]


@pytest.mark.parametrize(
    ("line", "replies"),
    [
        ("cl-fisher re", ["report"]),
        ("cl-fisher run strat", ["strategy="]),
        ("cl-fisher run -m strategy=ewc,jo", ["ewc,joint"]),
        ("cl-fisher run epochs=3 -m fisher/estimator=em", ["empirical"]),
        ("cl-fisher run --conf", ["--config-path", "--config-name", "--config-dir"]),
        ("cl-fisher list mod", ["model"]),
        ("cl-fisher report som", ["somewhere/"]),
    ],
)
def test_the_tab_key_in_bash(tmp_path, line, replies):
    (tmp_path / "somewhere").mkdir()
    program = tmp_path / "bin" / "cl-fisher"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cl_fisher "$@"\n')
    program.chmod(0o755)
    script = """
        eval "$(cl-fisher completion bash)"
        COMP_LINE=$1 COMP_POINT=${#1} COMP_TYPE=9
        _python_argcomplete cl-fisher
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    env = os.environ | {"PATH": f"{program.parent}:{os.environ['PATH']}"}
    command = ["bash", "--norc", "-c", script, "bash", line]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env, check=True)
    assert [reply.strip() for reply in done.stdout.splitlines()] == replies


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell(cli, shell):
    status, out, _ = cli("completion", shell)
    assert status == 0
    assert ("function __fish" if shell == "fish" else "#compdef cl-fisher") in out
