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
from cl_fisher.fisher.estimator.stratified import Stratified, _dealt
from cl_fisher.fisher.likelihood.bernoulli import Bernoulli
from cl_fisher.fisher.likelihood.categorical import Categorical
from cl_fisher.fisher.likelihood.gaussian import Gaussian
from cl_fisher.fisher.reference import brute_force

DRAWING = {
    "monte_carlo": MonteCarlo(2),
    "signs": Signs(2),
    "stratified": Stratified(2),
}
LIKELIHOODS = {"categorical": Categorical(), "bernoulli": Bernoulli(), "gaussian": Gaussian(0.5)}


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
    """A z-test per weight over 200 estimates; at most one in a hundred beyond three standard errors."""
    truth = brute_force(problem[0], problem[1]).diagonal()
    estimates = torch.stack([diagonal(problem, seed, estimator=DRAWING[name]) for seed in range(200)])
    error = estimates.std(0) / math.sqrt(200)
    z = (estimates.mean(0) - truth).abs() / error.clamp(min=1e-12)
    assert (z > 3).double().mean() < 0.01
    assert z.max() < 5


def output_fishers(estimator, likelihood, outputs, n):
    """Estimates of one example's output Fisher, [n, D, D], from draws of their own."""
    copies = outputs.expand(n, *outputs.shape)
    columns = estimator.columns(likelihood, copies, copies[..., 0].long(), Draws(0, torch.arange(n))).flatten(2)
    return torch.einsum("kni,knj->nij", columns, columns)


@pytest.mark.parametrize("shape", [(4,), (2, 3)], ids=["vector", "sequence"])
@pytest.mark.parametrize("samples", [1, 10, 100])
@pytest.mark.parametrize("kind", [MonteCarlo, Signs, Stratified])
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_same_mean_for_any_number_of_samples(name, kind, samples, shape):
    """A z-test per entry of the output Fisher over 500 estimates, for every likelihood."""
    torch.manual_seed(1)
    likelihood, outputs = LIKELIHOODS[name], 1.5 * torch.randn(shape, dtype=torch.float64)
    root = likelihood.square_root(outputs[None]).flatten(1)
    estimates = output_fishers(kind(samples), likelihood, outputs, 500)
    error = estimates.std(0) / math.sqrt(500)
    z = (estimates.mean(0) - root.T @ root).abs() / error.clamp(min=1e-10)
    assert z.max() < 4.5
    if kind is Stratified and samples > 4:
        assert error.max() < 1e-10


@pytest.mark.parametrize("kind", [MonteCarlo, Signs])
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_the_error_falls_with_slope_minus_one_half(name, kind):
    torch.manual_seed(1)
    likelihood, outputs = LIKELIHOODS[name], 1.5 * torch.randn(4, dtype=torch.float64)
    root = likelihood.square_root(outputs[None]).flatten(1)
    errors = [
        (output_fishers(kind(k), likelihood, outputs, 1000) - root.T @ root).square().mean().sqrt().log()
        for k in (1, 4, 16, 64)
    ]
    steps = torch.stack(errors).diff() / math.log(4)
    torch.testing.assert_close(steps.mean(), torch.tensor(-0.5).double(), atol=0.04, rtol=0)
    torch.testing.assert_close(steps, torch.full((3,), -0.5).double(), atol=0.12, rtol=0)


@pytest.mark.parametrize("name", DRAWING)
def test_draws_belong_to_examples_not_to_batches(problem, name):
    whole = diagonal(problem, estimator=DRAWING[name])
    shuffled = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(diagonal(problem, size=4, order=shuffled, estimator=DRAWING[name]), whole)
    assert not torch.allclose(diagonal(problem, seed=1, estimator=DRAWING[name]), whole)
    assert not torch.allclose(diagonal(problem, index=torch.arange(9) + 9, estimator=DRAWING[name]), whole)


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


@pytest.mark.parametrize("samples", [1, 2, 3, 5])
@pytest.mark.parametrize("scale", [0.1, 3.0])
def test_strata_are_even_and_keep_large_columns_apart(samples, scale):
    """By the sums of squared norms in the buckets, against columns dealt in turn and the largest ones set apart."""
    torch.manual_seed(0)
    likelihood, outputs = Categorical(), scale * torch.randn(50, 100, dtype=torch.float64)
    sizes = likelihood.column_norms(outputs).square().sort(0, descending=True).values
    bucket = _dealt(sizes, samples)
    in_turn = (torch.arange(100) % samples)[:, None].expand(100, 50)
    apart = torch.arange(100).clamp(max=samples - 1)[:, None].expand(100, 50)

    def spread(bucket):
        return sizes.new_zeros(samples, 50).scatter_add_(0, bucket, sizes).square().sum()

    assert bucket.min() == 0
    assert bucket.max() == samples - 1
    assert spread(bucket) <= 1.001 * min(spread(in_turn), spread(apart))


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


@pytest.mark.parametrize("kind", [MonteCarlo, Signs, Stratified])
def test_bad_options(kind):
    with pytest.raises(InputError, match="samples=0"):
        kind(0)
