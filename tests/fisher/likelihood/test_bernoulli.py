"""Binary outputs."""

import pytest
import torch
from torch import nn

from cl_fisher.error import InputError
from cl_fisher.fisher import estimate_fisher
from cl_fisher.fisher.likelihood.bernoulli import Bernoulli
from cl_fisher.fisher.likelihood.categorical import Categorical


def test_logistic_regression_in_closed_form():
    """mean p (1 - p) x x^T, and as a categorical likelihood of two logits (0, z)."""
    torch.manual_seed(0)
    model, inputs = nn.Linear(5, 1).double(), torch.randn(9, 5, dtype=torch.float64)
    p = model(inputs).detach().sigmoid()
    for targets in (torch.zeros(9, 1), torch.ones(9, dtype=torch.int64), torch.ones(9, 1, dtype=torch.bool)):
        fisher = estimate_fisher(model, [(inputs, targets)], likelihood="bernoulli").diagonal()
        expected = (p * (1 - p) * inputs.square()).mean(0, keepdim=True)
        torch.testing.assert_close(fisher["weight"], expected, rtol=1e-10, atol=1e-13)
        torch.testing.assert_close(fisher["bias"], (p * (1 - p)).mean(0), rtol=1e-10, atol=1e-13)
    z = model(inputs).detach()
    two = Categorical().square_root(torch.cat([torch.zeros_like(z), z], -1))
    torch.testing.assert_close(Bernoulli().square_root(z), two[..., 1:].abs())


@pytest.mark.parametrize("size", [1.0, 30.0, 60.0])
def test_float32_is_right_about_confident_networks(size):
    outputs = torch.tensor([[size, -size], [size / 3, -size / 2]])
    likelihood = Bernoulli()
    torch.testing.assert_close(
        likelihood.square_root(outputs).double(), likelihood.square_root(outputs.double()), rtol=2e-6, atol=0
    )
    for targets in (torch.zeros(2, 2), torch.ones(2, 2)):
        score = likelihood.score(outputs, targets)
        assert (score != 0).all()
        torch.testing.assert_close(score.double(), likelihood.score(outputs.double(), targets), rtol=2e-6, atol=0)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (torch.zeros(3), "wants a 0 or 1 for each output"),
        (torch.zeros(2, 3), "wants a 0 or 1 for each output"),
        (torch.full((3, 2), 0.5), "must be 0 or 1"),
        (torch.full((3, 2), float("nan")), "must be 0 or 1"),
        (torch.full((3, 2), 2), "must be 0 or 1"),
    ],
)
def test_targets_that_do_not_fit(targets, message):
    with pytest.raises(InputError, match=message):
        estimate_fisher(nn.Linear(4, 2), [(torch.zeros(len(targets), 4), targets)], likelihood="bernoulli")
