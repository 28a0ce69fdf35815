"""The self-check: a right estimate passes, planted mistakes are seen in its numbers."""

import math
from functools import partial

import pytest
import torch
from scipy.stats import spearmanr
from torch import nn
from torch.nn import functional

from cl_fisher.error import InputError
from cl_fisher.fisher import check, estimate_fisher
from cl_fisher.fisher.check import self_check, spearman
from cl_fisher.fisher.estimator.estimator import Estimator
from cl_fisher.fisher.reference import brute_force
from cl_fisher.fisher.structure.diagonal import Diagonal


@pytest.fixture(scope="module")
def trained():
    """A network of 4 classes after some training, with dropout and batch normalisation."""
    torch.manual_seed(0)
    centres = 1.5 * torch.randn(4, 6)
    targets = torch.arange(200) % 4
    inputs = centres[targets] + torch.randn(200, 6)
    model = nn.Sequential(
        nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.5), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 4)
    )
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(60):
        optimizer.zero_grad()
        functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    return model.eval(), (inputs, targets)


def checked_(trained, estimate, **options):
    model, batch = trained
    return self_check(model, batch, estimate(model, [batch]), estimate, **options)


@pytest.mark.parametrize("classes", [None, [3, 0, 1]])
def test_an_exact_diagonal_is_found_right(trained, classes):
    model, (inputs, targets) = trained
    rows = targets != 2 if classes else slice(None)
    batch = (inputs[rows], targets[rows])
    found = self_check(model, batch, estimate_fisher(model, [batch], classes=classes), estimate_fisher, classes=classes)
    assert found["check_cosine"] == pytest.approx(1, abs=1e-6)
    assert found["check_rank"] == pytest.approx(1, abs=1e-5)
    assert found["check_ratio"] == pytest.approx(1, abs=1e-5)
    assert found["check_examples"] == 16


def test_the_reference_is_the_definition_on_the_most_uncertain(trained):
    model, (inputs, targets) = trained
    seen = []

    def note(model, batches, *, classes=None):
        seen.extend(batches)
        return estimate_fisher(model, batches, classes=classes)

    self_check(model, (inputs, targets, torch.arange(200) + 7), note(model, [(inputs, targets)]), note, passes=12)
    few, _, index = seen[-1]
    uncertainty = 1 - model(inputs).softmax(-1).square().sum(-1)
    assert index.tolist() == (uncertainty.argsort(descending=True)[:3] + 7).tolist()
    columns = check._uncertain(model, seen[-1], few, check.LIKELIHOODS["categorical"](), None, 12)
    reference = check._reference(model, dict(model.named_parameters()), *columns)
    expected = brute_force(model, few).diagonal()
    torch.testing.assert_close(
        torch.cat([r.flatten() for r in reference.values()]).double(), expected, rtol=1e-4, atol=1e-7
    )


def test_shape_of_an_estimate(trained):
    model, batch = trained
    fisher = estimate_fisher(model, [batch])
    found = self_check(model, batch, fisher, estimate_fisher)
    shares = {key: value for key, value in found.items() if key.startswith("share/")}
    assert list(shares) == ["share/0", "share/1", "share/4", "share/6"]
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["share/6"] == pytest.approx(
        float(sum(fisher.diagonal()[f"6.{p}"].sum() for p in ("weight", "bias"))) / fisher.trace()
    )
    assert found["trace"] == pytest.approx(fisher.trace())
    flat = torch.cat([f.flatten() for f in fisher.diagonal().values()])
    assert found["zero"] == float((flat == 0).double().mean())


class Missing(Estimator):
    """Exact, but for one class."""

    def columns(self, likelihood, outputs, *_):
        return likelihood.square_root(outputs)[1:]


def in_another_mode(model, batches, *, classes=None):
    """Scaled as dropout in training mode would, but the same at each call."""
    handle = model[3].register_forward_hook(lambda _, __, out: out * (torch.arange(out.shape[-1]) % 2) * 2)
    try:
        return estimate_fisher(model, batches, classes=classes)
    finally:
        handle.remove()


def without_a_layer(model, batches, *, classes=None):
    fisher = estimate_fisher(model, batches, classes=classes)
    return Diagonal({n: f * (not n.startswith("6.")) for n, f in fisher.diagonal().items()})


def swapped(model, batches, *, classes=None):
    others = [(batch[0], (batch[1] + 2) % 4) for batch in batches]
    return estimate_fisher(model, others, estimator="empirical", classes=classes)


@pytest.mark.filterwarnings("ignore")
def test_mistakes_are_seen(trained):
    assert checked_(trained, in_another_mode)["check_cosine"] < 0.99
    dropped = checked_(trained, without_a_layer)
    assert dropped["share/6"] == 0
    assert dropped["zero"] > 0.15
    assert dropped["check_cosine"] < 0.9
    assert dropped["check_ratio"] < 0.9
    missing = checked_(trained, partial(estimate_fisher, estimator=Missing()))
    assert missing["check_cosine"] < 0.999  # a right one has 1 to 1e-6
    assert missing["check_ratio"] < 0.9
    right = checked_(trained, partial(estimate_fisher, estimator="empirical"))
    assert checked_(trained, swapped)["check_ratio"] > 2 * right["check_ratio"]


@pytest.mark.parametrize(("estimator", "least"), [("stratified", 0.99), ("signs", 0.8), ("monte_carlo", 0.7)])
def test_random_estimators_are_close(trained, estimator, least):
    found = checked_(trained, partial(estimate_fisher, estimator=estimator))
    assert least < found["check_cosine"] < 1
    assert 0.5 < found["check_ratio"] < 2


def test_no_trace_is_left(trained):
    model, batch = trained
    model.train()
    state, random = {n: t.clone() for n, t in model.state_dict().items()}, torch.get_rng_state()
    gradients = [p.grad.clone() for p in model.parameters()]
    self_check(model, batch, estimate_fisher(model, [batch]), estimate_fisher)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(t, state[n]) for n, t in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
    assert not any(module._forward_hooks for module in model.modules())
    model.eval()


def test_a_network_of_16_bits_and_a_frozen_layer():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).bfloat16()
    model[0].requires_grad_(False)
    batch = torch.randn(20, 4).bfloat16(), torch.zeros(20, dtype=torch.long)
    found = self_check(model, batch, estimate_fisher(model, [batch]), estimate_fisher)
    assert found["check_cosine"] == pytest.approx(1, abs=1e-4)
    assert [key for key in found if key.startswith("share/")] == ["share/2"]


def test_a_fisher_of_zero_and_mistakes():
    model, batch = nn.Linear(2, 3), (torch.zeros(4, 2), torch.zeros(4, dtype=torch.long))
    zero = Diagonal({"weight": torch.zeros(3, 2), "bias": torch.zeros(3)})
    found = self_check(model, batch, zero, lambda *_, **__: zero)
    assert found["zero"] == 1
    assert found["check_ratio"] == 0
    assert math.isnan(found["check_cosine"])
    with pytest.raises(InputError, match="without examples"):
        self_check(model, (torch.zeros(0, 2), torch.zeros(0, dtype=torch.long)), zero, estimate_fisher)
    with pytest.raises(InputError, match="likelihood=normal is unknown"):
        self_check(model, batch, zero, estimate_fisher, likelihood="normal")


def test_spearman_shares_ranks_of_ties():
    torch.manual_seed(0)
    a, b = torch.randint(5, (200,)).double(), torch.randint(7, (200,)).double()
    b = b + a
    assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert math.isnan(spearman(torch.ones(3).double(), a[:3]))
