"""Penalties with every structure: gradients are those of the value, sums are sums; and proofs by linear regression."""

import copy

import pytest
import torch
from torch import nn

from cl_fisher import EWC, OnlineEWC
from cl_fisher.fisher import estimate_fisher
from cl_fisher.fisher.estimate import STRUCTURES
from cl_fisher.fisher.likelihood.gaussian import Gaussian
from cl_fisher.fisher.structure.low_rank import LowRankStructure

EXACT_SUMS = ("identity", "diagonal", "block_diagonal", "dense", "implicit")


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def data(task):
    generator = torch.Generator().manual_seed(task)
    return torch.randn(12, 4, generator=generator, dtype=torch.float64), torch.randint(0, 3, (12,), generator=generator)


def wander(model, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=generator, dtype=p.dtype))


@pytest.mark.parametrize("strategy", [EWC, OnlineEWC])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_the_gradient_is_that_of_the_value(strategy, structure):
    model = network()
    ewc = strategy(model, strength=3.0, structure=structure)
    for task in range(3):
        wander(model, 10 + task)
        ewc.consolidate([data(task)])
    wander(model, 99)
    ewc.add_gradient()
    gradient = [p.grad.clone() for p in model.parameters()]
    generator = torch.Generator().manual_seed(1)
    direction = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in model.parameters()]
    values = []
    for step in (1e-4, -1e-4):
        with torch.no_grad():
            for p, d in zip(model.parameters(), direction, strict=True):
                p.add_(d, alpha=step)
            values.append(ewc.penalty())
            for p, d in zip(model.parameters(), direction, strict=True):
                p.sub_(d, alpha=step)
    slope = sum(float((g * d).sum()) for g, d in zip(gradient, direction, strict=True))
    assert (values[0] - values[1]) / 2e-4 == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize("structure", EXACT_SUMS)
def test_the_collapsed_penalty_is_the_sum_over_tasks(structure):
    model, memory = network(), []
    ewc = EWC(model, strength=3.0, structure=structure)
    for task in range(4):
        wander(model, 10 + task)
        memory.append((copy.deepcopy(model.state_dict()), estimate_fisher(model, [data(task)], structure=structure)))
        ewc.consolidate([data(task)])
    wander(model, 99)
    ewc.add_gradient()
    deltas = [{n: p.detach() - anchor[n] for n, p in model.named_parameters()} for anchor, _ in memory]
    value = 1.5 * sum(float(fisher.quadratic(d)) for (_, fisher), d in zip(memory, deltas, strict=True))
    assert ewc.penalty() == pytest.approx(value, rel=1e-10)
    products = [fisher.mv(d) for (_, fisher), d in zip(memory, deltas, strict=True)]
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, 3.0 * sum(product[name] for product in products), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("structure", [s for s in STRUCTURES if s != "implicit"])
def test_state_survives(structure, tmp_path):
    model = network()
    ewc, again = (EWC(model, strength=3.0, structure=structure) for _ in range(2))
    for task in range(3):
        wander(model, 10 + task)
        ewc.consolidate([data(task)])
    torch.save(ewc.state_dict(), tmp_path / "state.pt")
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    wander(model, 99)
    assert again.penalty() == ewc.penalty()
    for strategy in (ewc, again):
        wander(model, 7)
        strategy.consolidate([data(5)])
        wander(model, -7)
    assert again.quadratic.n_tasks == ewc.quadratic.n_tasks == 4


@pytest.mark.parametrize("strategy", [EWC, OnlineEWC])
@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("step", ["gradient", "proximal"])
def test_weights_in_16_bits(strategy, structure, dtype, step):
    """Value, gradient and proximal step are those of the same weights in 64, up to their own rounding."""
    short, long = network().to(dtype), network().to(dtype).double()
    pair = [strategy(m, strength=3.0, structure=structure, step=step) for m in (short, long)]
    for task in range(3):
        wander(short, 10 + task)
        for ewc in pair:
            ewc.model.load_state_dict(short.state_dict())
            inputs, targets = data(task)
            ewc.consolidate([(inputs.to(dtype).to(next(ewc.model.parameters())), targets)])
    wander(short, 99)
    long.load_state_dict(short.state_dict())
    assert pair[0].penalty() == pytest.approx(pair[1].penalty(), rel=0.02)
    for ewc in pair:
        for p in ewc.model.parameters():
            p.grad = torch.ones_like(p)
        ewc.add_gradient()
        optimizer = torch.optim.SGD(ewc.model.parameters(), lr=0.1)
        optimizer.step()
        ewc.after_step(optimizer)
    for p, q in zip(short.parameters(), long.parameters(), strict=True):
        torch.testing.assert_close(p.grad.double(), q.grad, rtol=0.02, atol=0.02)
        torch.testing.assert_close(p.double(), q, rtol=0.02, atol=0.01)


# Linear regression, tasks of equal size, noise of variance 1: a task's loss is its quadratic, so EWC can be exact.


def regression(task, n=20):
    generator = torch.Generator().manual_seed(100 + task)
    inputs = torch.randn(n, 4, generator=generator, dtype=torch.float64) * torch.tensor([1.0, 2.0, 0.5, 1.0]).double()
    return inputs, torch.randn(n, 2, generator=generator, dtype=torch.float64)


def optimum(tasks):
    """Least squares over the examples of these tasks: weight [2, 4]."""
    parts = [regression(t) for t in tasks]
    return torch.linalg.lstsq(torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])).solution.T


def after(strategy, structure, n_tasks):
    """The weights after so many tasks, each solved exactly: mean loss plus penalty of strength 1."""
    model = nn.Linear(4, 2, bias=False).double()
    ewc = strategy(model, strength=1.0, structure=structure, likelihood=Gaussian(variance=1.0))
    for task in range(n_tasks):
        x, y = regression(task)
        hessian = torch.kron(torch.eye(2).double(), x.T @ x / len(x))  # of the mean loss, weights flattened

        def gradient(x=x, y=y):
            ewc.model.weight.grad = (ewc.model.weight.detach() @ x.T - y.T) @ x / len(x)
            ewc.add_gradient()
            return ewc.model.weight.grad.flatten()

        if ewc.quadratic.precision is not None:
            hessian = hessian + ewc.quadratic.precision.to_dense()
        with torch.no_grad():
            step = torch.linalg.solve(hessian, gradient()).view(2, 4)  # one Newton step: everything is quadratic
            model.weight -= step
            assert float(gradient().abs().max()) < 1e-10
        ewc.consolidate([(x, y)])
    return model.weight.detach()


@pytest.mark.parametrize("n_tasks", [2, 3, 5])
def test_online_ewc_with_the_whole_matrix_is_joint_training(n_tasks):
    """Huszar 2018: one penalty at the last optimum, summed Fishers."""
    torch.testing.assert_close(after(OnlineEWC, "dense", n_tasks), optimum(range(n_tasks)), rtol=1e-9, atol=1e-11)


def test_one_penalty_per_task_is_joint_training_for_two_tasks_and_not_for_three():
    """From the third task on the first one is counted twice (Huszar 2018)."""
    torch.testing.assert_close(after(EWC, "dense", 2), optimum(range(2)), rtol=1e-9, atol=1e-11)
    assert float((after(EWC, "dense", 3) - optimum(range(3))).abs().max()) > 1e-3


def test_a_diagonal_is_not_joint_training():
    assert float((after(OnlineEWC, "diagonal", 2) - optimum(range(2))).abs().max()) > 1e-3


@pytest.mark.parametrize("structure", ["kronecker", "ekfac", "mixed", "low_rank"])
def test_a_merged_penalty_has_a_minimum_near_that_of_the_sum(structure):
    """Where a merge loses curvature the penalty must not push; it is bounded below by what the sum is."""
    model, memory = network(), []
    kept = LowRankStructure(rank=6, oversampling=6) if structure == "low_rank" else structure
    ewc = EWC(model, strength=2.0, structure=kept)
    for task in range(4):
        wander(model, 10 + task)
        memory.append((copy.deepcopy(model.state_dict()), estimate_fisher(model, [data(task)], structure=kept)))
        ewc.consolidate([data(task)])
    assert 0 < ewc.merge_error < 1
    curvature, directions = torch.linalg.eigh(ewc.quadratic.precision.to_dense())
    slope = torch.cat([ewc.quadratic.linear[name].flatten() for name in ewc.quadratic.precision.shapes()])
    within = directions.T @ slope
    assert float(within[curvature < 1e-9 * curvature.max()].abs().max()) < 1e-6 * float(slope.norm())
    lowest = ewc.quadratic.constant - float((within.square() / curvature)[curvature > 1e-9 * curvature.max()].sum())
    assert lowest > -1e-9


@pytest.mark.parametrize("structure", ["diagonal", "kronecker"])
def test_one_penalty_may_go_on_from_the_sum_of_several(structure):
    """Nothing of where the earlier optima were is left: the penalty at the new one is zero, and so is its gradient."""
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 3)
    batches = [(torch.randn(20, 4), torch.randint(0, 3, (20,)))]
    several, one = EWC(model, structure=structure), OnlineEWC(model, structure=structure)
    for _ in range(2):
        torch.nn.init.normal_(model.weight)
        several.consolidate(batches)
    one.load_state_dict(several.state_dict())
    torch.nn.init.normal_(model.weight)
    one.consolidate(batches)
    assert one.penalty() == pytest.approx(0.0, abs=1e-6)
    model.zero_grad()
    model.weight.grad, model.bias.grad = torch.zeros_like(model.weight), torch.zeros_like(model.bias)
    one.add_gradient()
    torch.testing.assert_close(model.weight.grad, torch.zeros_like(model.weight))
