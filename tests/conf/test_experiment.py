"""Every preset is what its first comment says: a command line whose cells all compose into a valid configuration."""

import shlex
from contextlib import closing
from functools import cache

import pytest

from cl_fisher.cli.catalog import Catalog
from cl_fisher.cli.engine import Engine
from cl_fisher.cli.sweep import plan
from cl_fisher.config import conf_dir

PRESETS = Catalog((conf_dir(),)).groups["experiment"]
WANTED = {
    "permuted_mnist": {"benchmark": "permuted", "dataset": "mnist", "n_tasks": 10, "epochs": 1},
    "split_mnist": {"benchmark": "split", "dataset": "mnist", "n_tasks": 5, "iterations": 2000},
    "rotated_mnist": {"benchmark": "rotated", "dataset": "mnist", "n_tasks": 5, "epochs": 1},
    "mnist_fashion": {"benchmark": "sequence", "n_tasks": 2, "epochs": 1},
    "online": {"benchmark": "split", "scenario": "class", "epochs": 1, "batch_size": 10, "optimizer.lr": 0.05},
    "blurred": {"benchmark": "split", "scenario": "class", "scenario.head": "full", "scenario.blur": 0.1},
}


@cache
def cells(preset):
    """The cells of a preset's command line."""
    _, command, *_ = PRESETS[preset].read_text().splitlines()
    program, verb, *words = shlex.split(command.removeprefix("# "))
    assert (program, verb) == ("cl-fisher", "run")
    with closing(Engine()) as engine:
        return plan(engine, [word for word in words if word != "-m"], "-m" in words).cells


@pytest.mark.parametrize("preset", PRESETS)
def test_the_command_line_of_a_preset(preset):
    found = cells(preset)
    assert {cell.choices["strategy"] for cell in found} == {"finetune", "ewc", "joint"}
    for cell in found:
        for key, value in WANTED.get(preset, {}).items():
            group, _, option = key.partition(".")
            there = cell.cfg[group][option] if option else cell.choices.get(key, cell.cfg.get(key))
            assert there == value, key


def test_data_sets_of_a_sequence():
    (names,) = {tuple(part.name for part in cell.cfg.benchmark.datasets.values()) for cell in cells("mnist_fashion")}
    assert names == ("MNIST", "FashionMNIST")
