"""What holds for every likelihood, one of a user's own included: against autograd on the negative log-likelihood."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional

from cl_fisher.error import InputError
from cl_fisher.fisher import estimate_fisher
from cl_fisher.fisher.draws import Draws
from cl_fisher.fisher.likelihood import independent
from cl_fisher.fisher.likelihood.bernoulli import Bernoulli
from cl_fisher.fisher.likelihood.categorical import Categorical
from cl_fisher.fisher.likelihood.gaussian import Gaussian
from cl_fisher.fisher.likelihood.likelihood import Likelihood


class Poisson(Likelihood):
    """Counts; the outputs are the logarithms of their rates. What a user has to write."""

    def score(self, outputs, targets):
        return outputs.exp() - targets

    def sample(self, outputs, draws, samples):
        counts = torch.arange(100.0, dtype=torch.float64)
        rate = outputs.double().exp()[..., None]
        below = (counts * rate.log() - rate - (counts + 1).lgamma()).exp().cumsum(-1)
        return (draws.per_example(samples, *outputs.shape[1:])[..., None] > below).sum(-1).to(outputs)

    def likeliest(self, outputs):
        return outputs.exp().floor()

    def square_root(self, outputs):
        return independent.columns((outputs / 2).exp())


def sum_of(loss):
    return lambda outputs, targets: loss(outputs.flatten(0, -2), targets.flatten(0, outputs.dim() - 2), reduction="sum")


CASES = {
    "categorical": (Categorical(), sum_of(functional.cross_entropy)),
    "bernoulli": (Bernoulli(), sum_of(functional.binary_cross_entropy_with_logits)),
    "gaussian": (Gaussian(0.3), lambda o, t: (o - t).square().sum() / 0.6),
    "poisson": (Poisson(), lambda o, t: (o.exp() - t * o).sum()),
}
SHAPES = [(5, 3), (5, 2), (4, 3, 4), (4, 3, 2), (3, 2, 2, 3)]
EVERY = pytest.mark.parametrize("name", CASES)
EVERY_SHAPE = pytest.mark.parametrize("shape", SHAPES, ids=str)


def case(name, shape):
    torch.manual_seed(0)
    likelihood, loss = CASES[name]
    outputs = 1.5 * torch.randn(shape, dtype=torch.float64)
    targets = likelihood.sample(outputs, Draws(3, torch.arange(shape[0])), 1)[0]
    return SimpleNamespace(likelihood=likelihood, loss=loss, outputs=outputs, targets=targets)


def output_fisher(c):
    """Hessian of the negative log-likelihood at the outputs of each example, [N, D, D]; the same for any targets."""
    d = c.outputs[0].numel()
    return torch.stack(
        [
            torch.autograd.functional.hessian(lambda o, t=t: c.loss(o[None], t[None]), o).reshape(d, d)
            for o, t in zip(c.outputs, c.targets, strict=True)
        ]
    )


@EVERY
@EVERY_SHAPE
def test_the_score_is_the_gradient(name, shape):
    c = case(name, shape)
    outputs = c.outputs.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(c.loss(outputs, c.targets), outputs)
    torch.testing.assert_close(c.likelihood.score(c.outputs, c.targets), gradient, rtol=1e-10, atol=1e-12)


@EVERY
@EVERY_SHAPE
def test_the_square_root_is_one_of_the_output_fisher(name, shape):
    c = case(name, shape)
    root = c.likelihood.square_root(c.outputs).flatten(2)
    product = torch.einsum("vni,vnj->nij", root, root)
    torch.testing.assert_close(product, output_fisher(c), rtol=1e-10, atol=1e-12)


@EVERY
@EVERY_SHAPE
def test_short_ways_give_what_the_square_root_gives(name, shape):
    c = case(name, shape)
    root = c.likelihood.square_root(c.outputs)
    n = len(root)
    assert root.shape == (n, *shape)
    assert c.likelihood.n_columns(c.outputs) == Likelihood.n_columns(c.likelihood, c.outputs) == n
    for size in (1, 2, 5, n):
        parts = [c.likelihood.columns(c.outputs, slice(i, i + size)) for i in range(0, n, size)]
        assert all(len(part) <= size for part in parts)
        assert torch.equal(torch.cat(parts), root)
    weights = torch.randn(4, n, shape[0], dtype=torch.float64)
    slowly = torch.stack([sum(w[v].reshape(-1, *[1] * (len(shape) - 1)) * root[v] for v in range(n)) for w in weights])
    torch.testing.assert_close(c.likelihood.combine(c.outputs, weights), slowly, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(Likelihood.combine(c.likelihood, c.outputs, weights), slowly, rtol=1e-10, atol=1e-12)
    norms = root.flatten(2).norm(dim=-1)
    torch.testing.assert_close(c.likelihood.column_norms(c.outputs), norms, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(Likelihood.column_norms(c.likelihood, c.outputs), norms, rtol=1e-10, atol=1e-12)


@EVERY
@pytest.mark.parametrize("shape", [(3,), (2, 3)], ids=str)
def test_samples_have_scores_of_mean_zero_and_of_the_fisher_as_covariance(name, shape):
    """20,000 copies of one example, two targets for each; z-tests per coordinate."""
    c = case(name, (1, *shape))
    outputs = c.outputs.expand(20_000, *shape)
    samples = c.likelihood.sample(outputs, Draws(0, torch.arange(20_000)), 2)
    score = torch.cat([c.likelihood.score(outputs, y) for y in samples]).flatten(1)
    z = score.mean(0) / (score.std(0) / math.sqrt(len(score)))
    assert z.abs().max() < 4
    products = score[:, :, None] * score[:, None]
    error = products.std(0) / math.sqrt(len(score))
    assert ((products.mean(0) - output_fisher(c)[0]).abs() < 4.5 * error + 1e-9).all()


@EVERY
def test_samples_belong_to_examples(name):
    c = case(name, (6, 4))
    samples = c.likelihood.sample(c.outputs, Draws(1, torch.arange(6)), 50)
    assert samples.shape == (50, *c.targets.shape)
    order = torch.tensor([4, 0, 3])
    assert torch.equal(c.likelihood.sample(c.outputs[order], Draws(1, order), 50), samples[:, order])


@EVERY
def test_nothing_is_likelier_than_the_likeliest(name):
    c = case(name, (50, 3))
    best = c.loss(c.outputs, c.likelihood.likeliest(c.outputs).to(c.targets.dtype))
    if name == "poisson":  # whose loss above lacks the terms of the targets alone
        return
    for targets in c.likelihood.sample(c.outputs, Draws(5, torch.arange(50)), 20):
        assert c.loss(c.outputs, targets) >= best


class Recurring(nn.Module):
    """Outputs at three positions, each of which sees the ones before it, or at the last one only."""

    def __init__(self, n_outputs, sequence):
        super().__init__()
        self.sequence = sequence
        self.embed, self.norm, self.out = nn.Linear(2, 4), nn.LayerNorm(4), nn.Linear(4, n_outputs)

    def forward(self, x):
        out = self.out(torch.tanh(self.norm(self.embed(x).cumsum(1))))
        return out if self.sequence else out[:, -1]


def dense(model, inputs, c):
    """mean_n J_n^T H_n J_n, with H_n the Hessian above, and the same of s_n s_n^T."""
    parameters = dict(model.named_parameters())

    def outputs(*weights):
        return torch.func.functional_call(model, dict(zip(parameters, weights, strict=True)), (inputs,))

    jacobians = torch.autograd.functional.jacobian(outputs, tuple(parameters.values()))
    start = c.outputs.dim()
    jacobian = torch.cat([j.flatten(start).flatten(1, start - 1) for j in jacobians], -1)
    s = torch.einsum("nip,ni->np", jacobian, c.likelihood.score(c.outputs, c.targets).flatten(1))
    return torch.einsum("nip,nij,njq->pq", jacobian, output_fisher(c), jacobian) / len(s), s.T @ s / len(s)


@EVERY
@pytest.mark.parametrize("sequence", [False, True])
def test_fisher_of_a_network(name, sequence):
    torch.manual_seed(0)
    model, inputs = Recurring(3, sequence).double(), torch.randn(7, 3, 2, dtype=torch.float64)
    c = case(name, (7, 3, 3) if sequence else (7, 3))
    c.outputs = model(inputs).detach()
    exact, empirical = dense(model, inputs, c)
    for estimator, truth in (("exact", exact), ("empirical", empirical)):
        batches = [(inputs[:5], c.targets[:5]), (inputs[5:], c.targets[5:])]
        fisher = estimate_fisher(model, batches, likelihood=c.likelihood, estimator=estimator).diagonal()
        found = torch.cat([f.flatten() for f in fisher.values()])
        torch.testing.assert_close(found, truth.diagonal(), rtol=1e-10, atol=1e-12)


@EVERY
def test_active_outputs_of_a_sequence(name):
    c = case(name, (4, 3, 5))
    narrow = case(name, (4, 3, 2))
    outputs, classes = c.outputs.clone(), [3, 1]
    outputs[..., classes] = narrow.outputs
    targets = torch.tensor(classes)[narrow.targets] if name == "categorical" else c.targets.clone()
    if name != "categorical":
        targets[..., classes] = narrow.targets
    active, local = c.likelihood.select(outputs, targets, classes)
    assert torch.equal(active, narrow.outputs)
    assert torch.equal(local, narrow.targets)
    with pytest.raises(InputError, match="distinct outputs from 0 to 4"):
        c.likelihood.select(outputs, targets, [3, 5])


def test_targets_of_a_likelihood_of_ones_own_are_one_per_output():
    with pytest.raises(InputError, match="Poisson wants a real number for each output"):
        Poisson().select(torch.zeros(3, 2), torch.zeros(3), None)


@pytest.mark.parametrize("name", ["bernoulli", "gaussian"])
def test_likelihoods_have_names(name):
    torch.manual_seed(0)
    model, inputs = nn.Linear(4, 2).double(), torch.randn(6, 4, dtype=torch.float64)
    fisher = estimate_fisher(model, [(inputs, torch.ones(6, 2))], likelihood=name)
    assert fisher.info["likelihood"] == name
