"""The fingerprint tells sequences apart by their data, not by what they are called."""

from dataclasses import replace

import pytest
import torch

from cl_fisher.benchmark.fingerprint import fingerprint
from cl_fisher.benchmark.permuted import permuted
from cl_fisher.benchmark.task import Scenario
from cl_fisher.dataset.examples import DataSet, Examples


def data(change=None):
    draw = torch.Generator().manual_seed(0)
    parts = []
    for n in (40, 20):
        source = torch.rand(n, 1, 3, 3, generator=draw)
        parts.append(Examples(source, torch.arange(n), torch.arange(n) % 4))
    if change == "inputs":
        parts[0] = replace(parts[0], source=parts[0].source + 0.1)
    if change == "targets":
        parts[0] = replace(parts[0], targets=parts[0].targets.flip(0))
    if change == "test":
        parts[1] = replace(parts[1], targets=parts[1].targets.flip(0))
    if change == "rounding":
        parts[0] = replace(parts[0], source=parts[0].source + 1e-7)
    return DataSet(*parts, n_classes=4)


def of(change=None, **options):
    given = {"n_tasks": 2, "seed": 0, "validation_fraction": 0.1} | options
    return fingerprint(permuted(data(change), Scenario("domain"), **given))


@pytest.mark.parametrize("change", [None, "rounding"])
def test_it_is_that_of_the_data(change):
    assert of(change) == of()
    assert len(of()) == 16


@pytest.mark.parametrize(
    ("change", "options"),
    [
        ("inputs", {}), ("targets", {}), ("test", {}), (None, {"seed": 1}), (None, {"n_tasks": 3}),
        (None, {"validation_fraction": 0.2}),
    ],
)  # fmt: skip
def test_other_data_have_another(change, options):
    assert of(change, **options) != of()
