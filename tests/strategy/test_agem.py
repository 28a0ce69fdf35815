"""A-GEM: the projected gradient against its closed form, and what computing it leaves alone."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from cl_fisher.cli.main import main
from cl_fisher.strategy.agem import AGEM
from cl_fisher.strategy.batch import Batch

HEADS = [range(2), range(2, 4)]


def batch(task, n=12):
    draw = torch.Generator().manual_seed(task)
    targets = torch.randint(2, (n,), generator=draw) + 2 * (task - 1)
    inputs = torch.randn(n, 3, generator=draw, dtype=torch.float64)
    return Batch(inputs, targets, torch.arange(n), torch.full((n,), task))


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 4)).double()


def second_task(model=None, **options):
    strategy = AGEM(model or network(), **options)
    strategy.begin_task(1, HEADS[:1])
    strategy.mix(batch(1))
    strategy.consolidate([batch(1)])
    strategy.begin_task(2, HEADS)
    strategy.mix(batch(2))
    return strategy


def flat(tensors):
    return torch.cat([t.flatten() for t in tensors])


def reference(model):
    """The gradient of the whole memory, in training mode."""
    model, first = copy.deepcopy(model), batch(1)
    loss = cross_entropy(model(first.inputs)[:, :2], first.targets)
    return flat(torch.autograd.grad(loss, list(model.parameters())))


@pytest.mark.parametrize("memory", ["class_balanced", "reservoir"])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_the_closed_form(memory, sign):
    strategy = second_task(memory=memory)
    r = reference(strategy.model)
    torch.manual_seed(1)
    g = sign * 0.4 * r + 0.1 * torch.randn_like(r)
    for p, part in zip(
        strategy.model.parameters(), g.split([p.numel() for p in strategy.model.parameters()]), strict=True
    ):
        p.grad = part.view_as(p).clone()
    strategy.add_gradient()
    found = flat(p.grad for p in strategy.model.parameters())
    if sign > 0:
        assert torch.equal(found, g)
    else:
        torch.testing.assert_close(found, g - g.dot(r) / r.dot(r) * r, rtol=1e-10, atol=1e-12)
        assert found.dot(r).item() == pytest.approx(0, abs=1e-12)
        assert g.dot(r) < -0.01


def test_no_drawn_gradient_is_raised_to_first_order():
    """Many draws and gradients: the inner product with the reference is never negative."""
    strategy = second_task(replay_batch_size=3)
    plain, seen = strategy._gradient, []
    strategy._gradient = lambda rows, held: seen.append(plain(rows, held)) or seen[-1]
    torch.manual_seed(2)
    changed = 0
    for _ in range(40):
        for p in strategy.model.parameters():
            p.grad = torch.randn_like(p)
        before = flat(p.grad for p in strategy.model.parameters())
        strategy.add_gradient()
        after = flat(p.grad for p in strategy.model.parameters())
        changed += not torch.equal(before, after)
        assert after.dot(flat(seen[-1])) > -1e-12
    assert 5 < changed < 35


def test_nothing_happens_in_the_first_task():
    strategy = AGEM(network())
    strategy.begin_task(1, HEADS[:1])
    own = batch(1)
    assert strategy.mix(own) is own
    strategy.add_gradient()
    assert all(p.grad is None for p in strategy.model.parameters())


def test_running_statistics_and_mode_are_left_alone():
    strategy = second_task()
    before = {name: b.clone() for name, b in strategy.model.named_buffers()}
    for p in strategy.model.parameters():
        p.grad = torch.ones_like(p)
    with torch.no_grad():  # as within an optimizer's closure
        strategy.add_gradient()
    assert all(torch.equal(b, before[name]) for name, b in strategy.model.named_buffers())
    assert strategy.model.training


def test_frozen_parameters_and_those_of_another_optimizer_are_left_alone():
    model = network()
    model[0].weight.requires_grad_(False)
    strategy = second_task(model)
    for p in model[3].parameters():
        p.grad = torch.ones_like(p)
    strategy.add_gradient(model[3].parameters())
    assert [name for name, p in model.named_parameters() if p.grad is not None] == ["3.weight", "3.bias"]


def test_a_parameter_that_only_the_memory_uses():
    """Its gradient is there afterwards, as that of the projected vector."""
    strategy = second_task()
    r = reference(strategy.model)
    parameters = list(strategy.model.parameters())
    sizes = [p.numel() for p in parameters]
    for p, part in zip(parameters[:-1], r.split(sizes)[:-1], strict=True):
        p.grad = -part.view_as(p).clone()
    strategy.add_gradient()
    g = torch.cat([-r[: -sizes[-1]], torch.zeros(sizes[-1], dtype=r.dtype)])
    torch.testing.assert_close(flat(p.grad for p in parameters), g - g.dot(r) / r.dot(r) * r)


@pytest.mark.parametrize("rows", ["free", "frozen"])
@pytest.mark.parametrize("strategy", [["strategy=agem"], ["strategy=compose", "strategy@strategy.parts.replay=agem"]])
def test_refused_where_the_rows_of_earlier_tasks_were_to_be_left_out(strategy, rows, capsys, tmp_path):
    options = ["scenario=class", "benchmark=split", "logger=none", f"output_dir={tmp_path}/x"]
    assert main(["run", *strategy, *options, f"scenario.old_rows={rows}"]) == 2
    shown = capsys.readouterr().err
    assert f"scenario.old_rows={rows} is not possible with AGEM, which projects the gradient as a whole" in shown
