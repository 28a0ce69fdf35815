"""Squared batch gradients, as a loop over batches with `loss.backward()` has them."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from cl_fisher.error import InputError
from cl_fisher.fisher import estimate_fisher
from cl_fisher.fisher.estimator.batched_empirical import BatchedEmpirical


def problem(n=22):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.Tanh(), nn.Linear(5, 4)).double()
    return model, torch.randn(n, 6, dtype=torch.float64), torch.randint(0, 4, (n,))


def loop(model, inputs, targets, size, reduction):
    """As it is written everywhere."""
    total = [torch.zeros_like(p) for p in model.parameters()]
    groups = list(zip(inputs.split(size), targets.split(size), strict=True))
    for x, y in groups:
        model.zero_grad()
        functional.cross_entropy(model(x), y, reduction=reduction).backward()
        total = [t + p.grad**2 / len(groups) for t, p in zip(total, model.parameters(), strict=True)]
    model.zero_grad()
    return torch.cat([t.flatten() for t in total])


def flat(fisher):
    return torch.cat([f.flatten() for f in fisher.diagonal().values()])


@pytest.mark.parametrize("convention", ["mean", "sum"])
@pytest.mark.parametrize("size", [1, 5, 22, 100])
def test_equals_a_loop_over_batches(size, convention):
    """22 examples, the last batch ragged; whatever batches they come in."""
    model, inputs, targets = problem()
    truth = loop(model, inputs, targets, size, convention)
    for own in (3, 22):
        batches = zip(inputs.split(own), targets.split(own), strict=True)
        fisher = estimate_fisher(model, batches, estimator=BatchedEmpirical(size, convention))
        torch.testing.assert_close(flat(fisher), truth, rtol=1e-10, atol=1e-14)
        assert fisher.info["samples"] == 22


def test_a_batch_of_one_is_the_empirical_fisher():
    model, inputs, targets = problem()
    batches = [(inputs, targets)]
    torch.testing.assert_close(
        flat(estimate_fisher(model, batches, estimator=BatchedEmpirical(1))),
        flat(estimate_fisher(model, batches, estimator="empirical")),
    )


def test_the_trace_falls_as_one_over_the_batch_size():
    """At labels drawn from the model, whose scores have no mean."""
    model, inputs, _ = problem(4000)
    targets = torch.distributions.Categorical(logits=model(inputs)).sample()
    alone = estimate_fisher(model, [(inputs, targets)], estimator="empirical").trace()
    for size, tolerance in ((10, 0.15), (50, 0.3)):
        trace = estimate_fisher(model, [(inputs, targets)], estimator=BatchedEmpirical(size)).trace()
        assert alone / trace == pytest.approx(size, rel=tolerance)


def test_bad_options():
    with pytest.raises(InputError, match="convention=max is unknown: it must be mean or sum"):
        BatchedEmpirical(convention="max")
    with pytest.raises(InputError, match="batch_size=0"):
        BatchedEmpirical(0)
