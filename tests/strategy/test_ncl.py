"""Natural continual learning: the bent gradient by a dense solve, its limits, and what it is for."""

import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD

from cl_fisher import EWC, OnlineEWC
from cl_fisher.error import InputError
from cl_fisher.strategy.er import ER
from cl_fisher.strategy.finetune import Finetune
from cl_fisher.strategy.lwf import LwF
from cl_fisher.strategy.mas import MAS
from cl_fisher.strategy.ncl import NCL
from cl_fisher.strategy.rwalk import RWalk
from cl_fisher.strategy.si import SI

STRUCTURES = ("diagonal", "kronecker", "ekfac", "dense", "low_rank", "block_diagonal", "mixed")


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def data(task):
    generator = torch.Generator().manual_seed(task)
    return torch.randn(12, 4, generator=generator, dtype=torch.float64), torch.randint(0, 3, (12,), generator=generator)


def wander(model, seed):
    torch.manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))


def gradient(model, task=5):
    model.zero_grad()
    cross_entropy(model(data(task)[0]), data(task)[1]).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def after_two_tasks(prior=OnlineEWC, structure="diagonal", **options):
    ncl = NCL(network(), partial(prior, structure=structure), **options)
    for task in range(2):
        wander(ncl.model, task)
        ncl.consolidate([data(task)])
    wander(ncl.model, 7)
    return ncl


def flat(named):
    return torch.cat([t.flatten() for t in named])


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("prior", [EWC, OnlineEWC])
@pytest.mark.parametrize(("strength", "damping"), [(3.0, 1.0), (1e4, 0.1), (0.5, 20.0)])
def test_the_gradient_is_that_of_loss_and_penalty_in_the_metric(prior, structure, strength, damping):
    ncl = after_two_tasks(prior, structure, strength=strength, damping=damping)
    precision = ncl.quadratic.precision.to_dense()
    delta = flat(p.detach() - ncl.quadratic.centre[name] for name, p in ncl.model.named_parameters())
    slope = precision @ delta + (flat(ncl.quadratic.linear.values()) if ncl.quadratic.linear else 0.0)
    whole = gradient(ncl.model) + strength * slope
    expected = torch.linalg.solve(torch.eye(len(whole)).double() + strength / damping * precision, whole)
    ncl.add_gradient()
    torch.testing.assert_close(flat(p.grad for p in ncl.model.parameters()), expected, rtol=1e-8, atol=1e-10)


def test_it_is_the_step_of_the_paper_where_the_precision_is_large():
    """Damping times (Lambda^-1 grad loss + theta - theta_last), less the pull of damping itself."""
    ncl = after_two_tasks(structure="dense", strength=50.0, damping=0.5)
    inverse = torch.linalg.inv(50.0 * ncl.quadratic.precision.to_dense() + 0.5 * torch.eye(43).double())
    delta = flat(p.detach() - ncl.quadratic.centre[name] for name, p in ncl.model.named_parameters())
    paper = inverse @ gradient(ncl.model) + delta
    ncl.add_gradient()
    found = flat(p.grad for p in ncl.model.parameters())
    torch.testing.assert_close(found, 0.5 * (paper - 0.5 * inverse @ delta), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("options", [{"strength": 0.0}, {"strength": 5.0}])
def test_nothing_happens_without_strength_or_before_the_first_task(options):
    ncl = after_two_tasks(**options) if options["strength"] == 0 else NCL(network(), OnlineEWC, **options)
    before = gradient(ncl.model)
    ncl.add_gradient()
    assert torch.equal(flat(p.grad for p in ncl.model.parameters()), before)


def test_only_the_parameters_of_the_optimizer_that_steps():
    ncl = after_two_tasks()
    before = gradient(ncl.model)
    ncl.add_gradient(ncl.model[0].parameters())
    after = flat(p.grad for p in ncl.model.parameters())
    assert torch.equal(after[25:], before[25:])
    assert not torch.equal(after[:25], before[:25])


def test_frozen_parameters_and_ones_without_a_gradient():
    ncl = after_two_tasks()
    gradient(ncl.model)
    first, bias, *_ = ncl.model.parameters()
    first.requires_grad_(False)
    first.grad, bias.grad = None, None
    ncl.add_gradient()
    assert first.grad is None
    assert float(bias.grad.abs().max()) > 0


@pytest.mark.parametrize("structure", ["diagonal", "kronecker", "dense"])
def test_no_strength_diverges_where_the_penalty_s_own_gradient_does(structure):
    """Plain descent stops at lr * strength * curvature = 2; here the curvature that steps see is at most `damping`."""

    def run(strategy):
        wander(strategy.model, 1)
        strategy.consolidate([data(0)])
        anchor = flat(p.detach().clone() for p in strategy.model.parameters())
        optimizer = SGD(strategy.model.parameters(), lr=0.1)
        for _ in range(300):
            gradient(strategy.model)
            strategy.add_gradient()
            optimizer.step()
        return flat(p.detach() for p in strategy.model.parameters()) - anchor

    ncl = NCL(network(), partial(OnlineEWC, structure=structure), strength=1e6, damping=1.0)
    moved = run(ncl)
    values, vectors = torch.linalg.eigh(ncl.quadratic.precision.to_dense())
    assert float((vectors.T @ moved)[values > 1e-2 * values.max()].abs().max()) < 1e-3
    assert 0 < float(moved.norm()) < 20
    assert ncl.strength * ncl.curvature_bound() <= ncl.damping
    assert not bool(run(OnlineEWC(network(), strength=1e6, structure=structure)).isfinite().all())


@pytest.mark.parametrize("structure", ["diagonal", "dense"])
def test_the_stationary_point_is_that_of_loss_and_penalty(structure):
    """Descent from the old weights ends where the plain gradient of the objective vanishes."""
    ncl = NCL(network(), partial(OnlineEWC, structure=structure), strength=20.0, damping=5.0)
    wander(ncl.model, 1)
    ncl.consolidate([data(0)])
    plain = OnlineEWC(ncl.model, strength=20.0)
    plain.quadratic = ncl.quadratic

    def slope():
        gradient(ncl.model)
        plain.add_gradient()
        return float(flat(p.grad for p in ncl.model.parameters()).norm())

    at_start = slope()
    optimizer = SGD(ncl.model.parameters(), lr=0.3, momentum=0.9)
    for _ in range(600):
        gradient(ncl.model)
        ncl.add_gradient()
        optimizer.step()
    assert slope() < 0.02 * at_start


def test_state_survives(tmp_path):
    ncl = after_two_tasks(EWC, "kronecker")
    torch.save(ncl.state_dict(), tmp_path / "s.pt")
    twin = NCL(copy.deepcopy(ncl.model), partial(EWC, structure="kronecker"))
    twin.load_state_dict(torch.load(tmp_path / "s.pt", weights_only=True))
    for s in (ncl, twin):
        s.consolidate([data(3)])
        wander(s.model, 8)
        gradient(s.model)
        s.add_gradient()
    assert all(
        torch.equal(a.grad, b.grad) for a, b in zip(ncl.model.parameters(), twin.model.parameters(), strict=True)
    )
    assert ncl.penalty() == twin.penalty() > 0


def test_any_penalty_of_task_ends_is_a_prior():
    ncl = NCL(network(), MAS, strength=3.0)
    ncl.consolidate([data(1)])
    wander(ncl.model, 8)
    assert ncl.penalty() > 0


def test_wrong_options():
    with pytest.raises(InputError, match=r"strategy\.prior\.step=proximal"):
        NCL(network(), partial(OnlineEWC, step="proximal"))
    for prior in (SI, RWalk, LwF, ER, Finetune, partial(NCL, prior=EWC)):
        with pytest.raises(InputError, match=r"strategy\.prior=\w+ is not possible in ncl"):
            NCL(network(), prior)
    with pytest.raises(InputError, match="damping=0"):
        NCL(network(), OnlineEWC, damping=0.0)
