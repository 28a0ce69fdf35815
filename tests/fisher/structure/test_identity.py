"""The identity in place of the Fisher."""

import pytest
import torch
from torch import nn

from cl_fisher.fisher import estimate_fisher
from cl_fisher.strategy.ewc import EWC


def unread():
    pytest.fail("the data was looked at")
    yield


def identity(model):
    return estimate_fisher(model, unread(), structure="identity")


def test_no_data_is_looked_at():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    model[0].weight.requires_grad_(False)
    fisher = identity(model)
    assert list(fisher.shapes()) == ["0.bias", "1.weight", "1.bias"]
    assert torch.equal(fisher.to_dense(), torch.eye(11))


def test_sums_after_growth_know_how_often_a_weight_was_meant():
    one, two = identity(nn.Linear(2, 3)), identity(nn.Linear(2, 5))
    total = 0.5 * one.grown(two.diagonal()) + two
    assert torch.equal(total.diagonal()["bias"], torch.tensor([1.5, 1.5, 1.5, 1.0, 1.0]))


def test_the_penalty_is_the_squared_distance():
    torch.manual_seed(0)
    model = nn.Linear(2, 3)
    ewc = EWC(model, strength=4.0, structure="identity")
    ewc.consolidate([(torch.randn(5, 2), torch.zeros(5, dtype=torch.long))])
    with torch.no_grad():
        model.weight += 0.5
    assert ewc.penalty() == pytest.approx(2.0 * 6 * 0.25)
