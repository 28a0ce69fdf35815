"""Regression."""

import pytest
import torch
from torch import nn

from cl_fisher.error import InputError
from cl_fisher.fisher import estimate_fisher
from cl_fisher.fisher.draws import Draws
from cl_fisher.fisher.likelihood.gaussian import Gaussian


@pytest.mark.parametrize("variance", [1.0, 0.25])
def test_linear_regression_in_closed_form(variance):
    """X^T X / (N variance) for each output, whatever the targets."""
    torch.manual_seed(0)
    model, inputs = nn.Linear(5, 3).double(), torch.randn(9, 5, dtype=torch.float64)
    for targets in (torch.zeros(9, 3), torch.randn(9, 3, dtype=torch.float64), torch.ones(9, 3, dtype=torch.int64)):
        fisher = estimate_fisher(model, [(inputs, targets)], likelihood=Gaussian(variance)).diagonal()
        expected = (inputs.square().mean(0) / variance).expand(3, 5)
        torch.testing.assert_close(fisher["weight"], expected, rtol=1e-10, atol=1e-13)
        torch.testing.assert_close(fisher["bias"], torch.full((3,), 1 / variance).double(), rtol=1e-10, atol=1e-13)


def test_one_active_output_is_enough():
    torch.manual_seed(0)
    model, inputs = nn.Linear(5, 3), torch.randn(9, 5)
    fisher = estimate_fisher(model, [(inputs, torch.zeros(9, 3))], likelihood="gaussian", classes=[1]).diagonal()
    assert fisher["weight"][[0, 2]].abs().max() == 0
    torch.testing.assert_close(fisher["weight"][1], inputs.square().mean(0))


def test_targets_of_one_output_need_no_dimension_for_it():
    torch.manual_seed(0)
    model, inputs, targets = nn.Linear(5, 1), torch.randn(9, 5), torch.randn(9)
    found = [
        estimate_fisher(model, [(inputs, t)], likelihood="gaussian", estimator="empirical").diagonal()["weight"]
        for t in (targets, targets[:, None])
    ]
    torch.testing.assert_close(*found)
    score = (model(inputs) - targets[:, None]) * inputs
    torch.testing.assert_close(found[0][0], score.square().mean(0).detach())


def test_the_likeliest_target_has_no_score():
    outputs = torch.randn(3, 2)
    assert Gaussian().score(outputs, Gaussian().likeliest(outputs)).abs().max() == 0


def test_draws_are_normal_and_finite():
    outputs = torch.full((100_000, 1), 2.0)
    targets = Gaussian(9.0).sample(outputs, Draws(0, torch.arange(100_000)), 1).flatten().sort().values
    standard = torch.distributions.Normal(2.0, 3.0).cdf(targets)
    assert (standard - torch.linspace(0, 1, 100_000)).abs().max() < 1.63 / 100_000**0.5  # Kolmogorov and Smirnov, 1 %
    zero = type("Zero", (), {"per_example": lambda *_: torch.zeros(1, 1, 1, dtype=torch.float64)})()
    assert Gaussian().sample(torch.zeros(1, 1), zero, 1).isfinite().all()


@pytest.mark.parametrize("targets", [torch.zeros(3), torch.zeros(3, 1), torch.zeros(3, 2, dtype=torch.complex64)])
def test_targets_that_do_not_fit(targets):
    with pytest.raises(InputError, match="targets"):
        estimate_fisher(nn.Linear(4, 2), [(torch.zeros(3, 4), targets)], likelihood="gaussian")


@pytest.mark.parametrize("variance", [0.0, -1.0, float("nan")])
def test_bad_options(variance):
    with pytest.raises(InputError, match="variance="):
        Gaussian(variance)
