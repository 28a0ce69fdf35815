"""Estimators that draw: unbiased, keyed by example, and as good as they are said to be."""

import math

import pytest
import torch
from torch import nn

from cl_fisher.error import InputError
from cl_fisher.fisher import estimate_fisher
from cl_fisher.fisher.draws import Draws
from cl_fisher.fisher.estimator.monte_carlo import MonteCarlo
from cl_fisher.fisher.estimator.signs import Signs
from cl_fisher.fisher.estimator.stratified import Stratified
from cl_fisher.fisher.likelihood.categorical import Categorical
from cl_fisher.fisher.reference import brute_force

DRAWING = {
    "monte_carlo": MonteCarlo(2),
    "signs": Signs(2),
    "stratified": Stratified(2),
}


@pytest.fixture
def problem():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 4)).double()
    with torch.no_grad():
        model[2].weight.mul_(3)
    return model, torch.randn(9, 4, dtype=torch.float64), torch.randint(0, 4, (9,))


def diagonal(problem, seed=0, index=None, order=slice(None), size=9, **options):
    model, inputs, targets = problem
    index = torch.arange(9) if index is None else index
    batches = zip(inputs[order].split(size), targets[order].split(size), index[order].split(size), strict=True)
    return torch.cat([f.flatten() for f in estimate_fisher(model, batches, seed=seed, **options).diagonal().values()])


@pytest.mark.parametrize("name", DRAWING)
def test_unbiased(problem, name):
    """A z-test per coordinate over 300 estimates; at most one in a hundred beyond three standard errors."""
    truth = brute_force(problem[0], problem[1]).diagonal()
    estimates = torch.stack([diagonal(problem, seed, estimator=DRAWING[name]) for seed in range(300)])
    error = estimates.std(0) / math.sqrt(300)
    z = (estimates.mean(0) - truth).abs() / error.clamp(min=1e-12)
    assert (z > 3).double().mean() < 0.01
    assert z.max() < 5


@pytest.mark.parametrize("name", DRAWING)
def test_draws_belong_to_examples_not_to_batches(problem, name):
    whole = diagonal(problem, estimator=DRAWING[name])
    shuffled = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(diagonal(problem, size=4, order=shuffled, estimator=DRAWING[name]), whole)
    assert not torch.allclose(diagonal(problem, seed=1, estimator=DRAWING[name]), whole)
    assert not torch.allclose(diagonal(problem, index=torch.arange(9) + 9, estimator=DRAWING[name]), whole)


@pytest.mark.parametrize("kind", [MonteCarlo, Signs])
def test_error_falls_as_the_root_of_the_number_of_samples(problem, kind):
    truth = brute_force(problem[0], problem[1]).diagonal()

    def error(samples):
        return torch.stack([(diagonal(problem, s, estimator=kind(samples)) - truth).norm() for s in range(60)]).mean()

    assert error(1) / error(16) == pytest.approx(4.0, rel=0.25)


def test_stratified_is_exact_with_as_many_strata_as_columns(problem):
    truth = brute_force(problem[0], problem[1]).diagonal()
    for samples in (4, 7):
        estimate = diagonal(problem, estimator=Stratified(samples))
        torch.testing.assert_close(estimate, truth, rtol=1e-10, atol=1e-12)


def test_two_classes_need_one_column(problem):
    _, inputs, targets = problem
    torch.manual_seed(2)
    two = nn.Linear(4, 2).double(), inputs, targets % 2
    truth = brute_force(two[0], inputs).diagonal()
    for name in ("exact", "signs", "stratified"):
        torch.testing.assert_close(diagonal(two, estimator=name), truth, rtol=1e-10, atol=1e-12)


def test_order_of_merit_on_ten_classes():
    """Labels are worse than signs, signs worse than strata, at equal cost."""
    torch.manual_seed(0)
    model, inputs = nn.Linear(6, 10).double(), torch.randn(40, 6, dtype=torch.float64)
    with torch.no_grad():
        model.weight.mul_(4)
    problem = model, inputs, torch.zeros(40, dtype=torch.long)
    truth = brute_force(model, inputs).diagonal()

    def error(estimator):
        estimates = [
            estimate_fisher(model, [(inputs, problem[2])], estimator=estimator, seed=s).diagonal() for s in range(40)
        ]
        return torch.stack([(torch.cat([f.flatten() for f in e.values()]) - truth).norm() for e in estimates]).mean()

    labels, signs, strata = error(MonteCarlo(3)), error(Signs(3)), error(Stratified(3))
    assert labels > 1.3 * signs > 1.3 * 1.3 * strata


def test_argmax_is_the_empirical_fisher_of_the_models_own_answers(problem):
    model, inputs, _ = problem
    answers = model(inputs).argmax(-1)
    torch.testing.assert_close(diagonal(problem, estimator="argmax"), brute_force(model, inputs, answers).diagonal())


def test_labels_are_drawn_with_the_models_probabilities():
    outputs = torch.tensor([[0.0, 1.0, 3.0]]).expand(30_000, 3)
    labels = Categorical().sample(outputs, Draws(0, torch.arange(30_000)), 2)
    frequency = torch.bincount(labels.flatten(), minlength=3) / 60_000
    torch.testing.assert_close(frequency, outputs[0].softmax(-1), atol=0.01, rtol=0)


def test_draws_are_uniform_independent_and_repeatable():
    draws = Draws(7, torch.arange(50_000))
    u = draws.uniform(3)
    assert torch.equal(u, Draws(7, torch.arange(50_000)).uniform(3))
    assert 0 <= u.min() < u.max() < 1
    torch.testing.assert_close(u.mean(1), torch.full((3,), 0.5, dtype=torch.float64), atol=0.01, rtol=0)
    torch.testing.assert_close(torch.cov(u) * 12, torch.eye(3, dtype=torch.float64), atol=0.03, rtol=0)
    assert torch.equal(Draws(7, torch.tensor([5, 2])).uniform(3), u[:, [5, 2]])
    assert (u != Draws(8, torch.arange(50_000)).uniform(3)).all()
    assert set(draws.signs(2).unique().tolist()) == {-1.0, 1.0}
    assert draws.signs(2).mean().abs() < 0.02


@pytest.mark.parametrize("kind", [MonteCarlo, Signs, Stratified])
def test_bad_options(kind):
    with pytest.raises(InputError, match="samples=0"):
        kind(0)
