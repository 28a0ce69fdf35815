"""Awkward models, each against brute force in float64, in any batches, and left as it was."""

import copy
import warnings

import pytest
import torch
from torch import nn

from cl_fisher.fisher import estimate_fisher
from cl_fisher.fisher.reference import brute_force
from tests.fisher.models import MODELS, N, make

pytestmark = [
    pytest.mark.filterwarnings("ignore:Fisher example by example"),
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning"),
]

ONE_BY_ONE = {}
"""Models that vmap cannot do, and that no rule covers as a whole."""


def flat(named):
    return torch.cat([t.flatten() for t in named.values()])


def batches(inputs, targets, sizes, order=None):
    order = torch.arange(N) if order is None else order
    return list(zip(inputs[order].split(sizes), targets[order].split(sizes), order.split(sizes), strict=True))


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-14)


def trace(model):
    """Everything that an estimate could leave behind in a model, by module."""
    return [
        (
            {
                key: copy.copy(value) if isinstance(value, (dict, list, set)) else value
                for key, value in vars(m).items()
            },
            {
                name: (t, t._version, t.clone(), t.requires_grad)
                for name, t in [*m.named_parameters(), *m.named_buffers()]
            },
            {name: None if p.grad is None else (p.grad, p.grad.clone()) for name, p in m.named_parameters()},
        )
        for m in model.modules()
    ]


@pytest.mark.parametrize("name", MODELS)
def test_diagonal_equals_brute_force(name):
    model, inputs, targets = make(name)
    empirical = brute_force(model, inputs.clone(), targets).diagonal()
    truth = brute_force(model, inputs.clone()).diagonal()
    sizes = [[4, 5, 2], [N]][name in ("time first", "prototypes")]
    fisher = estimate_fisher(model, batches(inputs, targets, sizes)).diagonal()
    trainable = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert {n: f.shape for n, f in fisher.items()} == {n: p.shape for n, p in trainable.items()}
    close(flat(fisher), truth)
    of_each = truth.split([p.numel() for p in trainable.values()])
    for n, mine, true in zip(fisher, fisher.values(), of_each, strict=True):
        assert bool(mine.any()) == bool(true.any()), n  # zero only where the outputs do not depend on it
    close(flat(estimate_fisher(model, batches(inputs, targets, sizes), estimator="empirical").diagonal()), empirical)
