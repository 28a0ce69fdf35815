"""Synaptic intelligence against plain loops, in float64."""

import pytest
import torch
from torch import nn

from cl_fisher.error import RunError
from cl_fisher.strategy.compose import Compose
from cl_fisher.strategy.ewc import EWC
from cl_fisher.strategy.finetune import Finetune
from cl_fisher.strategy.path import Path
from cl_fisher.strategy.rwalk import RWalk
from cl_fisher.strategy.si import SI
from tests.strategy.lockstep import OPTIMIZERS, assert_same_weights, batches, heads_at, network, task_loss, train
from tests.strategy.naive import Naive


class NaiveSI(Naive):
    damping = 0.1

    def begin(self):
        self.omega = [torch.zeros_like(p) for p in self.parameters]
        self.first = [p.detach().clone() for p in self.parameters]

    def stepped(self, gradients, before):
        for omega, g, old, p in zip(self.omega, gradients, before, self.parameters, strict=True):
            for at in range(p.numel()):
                omega.view(-1)[at] -= g.view(-1)[at] * (p.detach().view(-1)[at] - old.view(-1)[at])

    def end(self, _data, _head):
        found = [
            omega.clamp(min=0) / ((p.detach() - first) ** 2 + self.damping)
            for omega, p, first in zip(self.omega, self.parameters, self.first, strict=True)
        ]
        old = self.importance or [0.0] * len(found)
        self.importance = [a + b for a, b in zip(old, found, strict=True)]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("step", ["gradient", "proximal"])
@pytest.mark.parametrize("how", [{}, {"clip": 0.3}, {"accumulate": 3}])
def test_every_step_of_three_tasks_is_that_of_the_plain_loop(optimizer, step, how):
    si, naive = SI(network(), strength=40.0, step=step), NaiveSI(network(), OPTIMIZERS[optimizer], 40.0, step)
    optimizer_ = OPTIMIZERS[optimizer](list(si.model.parameters()))
    for number in (1, 2, 1):
        for _ in zip(train(si, optimizer_, number, **how), naive.train(number, **how), strict=True):
            assert_same_weights(si.model, naive.model, rtol=1e-9, atol=1e-12)
    for (_, entry), wanted in zip(si.quadratic.precision.diagonal().items(), naive.importance, strict=True):
        torch.testing.assert_close(entry, wanted, rtol=1e-8, atol=1e-12)
        assert float(wanted.max()) > 0


def test_the_path_adds_up_to_the_fall_of_the_loss():
    """Zenke et al. 2017, eq. 3: for small steps on a fixed loss the integral is its difference."""
    model, path = network(), Path()
    (batch,) = batches(1, steps=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    first = task_loss(model, batch, heads_at(1)).item()
    for _ in range(500):
        optimizer.zero_grad()
        task_loss(model, batch, heads_at(1)).backward()
        path.note(model)
        optimizer.step()
    gain, _ = path.end(model)
    fall = first - task_loss(model, batch, heads_at(1)).item()
    assert sum(float(g.sum()) for g in gain.values()) == pytest.approx(fall, rel=1e-3)


def test_a_step_that_a_gradient_scaler_skips_counts_nothing():
    model, path = network(), Path()
    for p in model.parameters():
        p.grad = torch.full_like(p, float("inf"))
    path.note(model)
    gain, change = path.end(model)
    assert all(bool((g == 0).all()) for g in [*gain.values(), *change.values()])


def test_what_moves_weights_after_the_strategy_is_part_of_the_path():
    """Such as another part's proximal step, or rows that are put back."""
    model, path = network(), Path()
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    path.note(model)
    with torch.no_grad():
        for p in model.parameters():
            p -= 0.5
    gain, change = path.end(model)
    for g, c in zip(gain.values(), change.values(), strict=True):
        torch.testing.assert_close(g, torch.full_like(g, 0.5))
        torch.testing.assert_close(c, torch.full_like(c, -0.5))


def test_several_optimizers_share_the_path():
    whole, parts = SI(network()), SI(network())
    one = OPTIMIZERS["adam"](list(whole.model.parameters()))
    two = [OPTIMIZERS["adam"](list(layer.parameters())) for layer in (parts.model[0], parts.model[-1])]
    for number in (1, 2):
        for batch in batches(number):
            for si, optimizers in ((whole, [one]), (parts, two)):
                si.model.zero_grad()
                task_loss(si.model, batch, heads_at(number)).backward()
                for optimizer in optimizers:
                    held = (p for group in optimizer.param_groups for p in group["params"])
                    si.add_gradient(held if len(optimizers) > 1 else None)
                    optimizer.step()
        for si in (whole, parts):
            si.consolidate([])
        assert_same_weights(whole.model, parts.model, rtol=0, atol=0)
    for name, entry in whole.quadratic.precision.diagonal().items():
        assert torch.equal(entry, parts.quadratic.precision.diagonal()[name])


def test_frozen_parameters_are_left_alone():
    model = network()
    model[0].requires_grad_(False)
    si = SI(model)
    for _ in train(si, OPTIMIZERS["sgd"](list(model[-1].parameters())), 1):
        pass
    assert set(si.quadratic.centre) == {"2.weight", "2.bias"}
    model[0].requires_grad_(True)
    for _ in train(si, OPTIMIZERS["sgd"](list(model.parameters())), 2):
        pass
    assert set(si.quadratic.precision.shapes()) == {"0.weight", "0.bias", "2.weight", "2.bias"}


class WatchedEWC(EWC):
    """Books what SI should, by a path of its own."""

    def __init__(self, model):
        super().__init__(model, 50.0)
        self.path, self.found = Path(), []

    def add_gradient(self, parameters=None):
        self.path.note(self.model)
        super().add_gradient(parameters)

    def consolidate(self, batches, classes=None):
        gain, change = self.path.end(self.model)
        self.found.append({name: g.clamp(min=0) / (change[name] ** 2 + 0.1) for name, g in gain.items()})
        super().consolidate(batches, classes)


@pytest.mark.parametrize("order", [("si", "ewc"), ("ewc", "si")])
def test_in_a_composition_it_sees_the_gradient_of_the_task_only(order):
    make = {"si": lambda model: SI(model, 0.0), "ewc": lambda model: EWC(model, 50.0)}
    compose, watched = Compose(network(), {name: make[name] for name in order}), WatchedEWC(network())
    for number in (1, 2):
        for strategy in (compose, watched):
            for _ in train(strategy, OPTIMIZERS["adam"](list(strategy.model.parameters())), number):
                pass
    for name, entry in compose.parts["si"].quadratic.precision.diagonal().items():
        torch.testing.assert_close(entry, sum(found[name] for found in watched.found))


def test_without_a_step_there_is_nothing_to_consolidate():
    with pytest.raises(RunError, match="add_gradient"):
        SI(network()).consolidate([])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: model.__setitem__(2, nn.Identity()), "2.weight has gone since a step"),
        (lambda model: model.__setitem__(2, nn.Linear(6, 8).double()), "2.weight has another shape since a step"),
    ],
)
@pytest.mark.parametrize("strategy", [SI, RWalk])
def test_a_model_that_changes_before_it_is_consolidated_is_one_line(strategy, change, message):
    changed = strategy(network())
    changed.add_gradient()
    change(changed.model)
    with pytest.raises(RunError, match=message):
        changed.consolidate([])


def test_sixteen_bits_accumulate_in_thirty_two():
    model = network().to(torch.bfloat16)
    si, optimizer = SI(model), torch.optim.SGD(model.parameters(), lr=0.1)
    for number in (1, 2):
        for batch in batches(number):
            optimizer.zero_grad()
            model(batch.inputs.to(torch.bfloat16)).square().mean().backward()
            si.add_gradient()
            optimizer.step()
        si.consolidate([])
    assert all(entry.dtype == torch.float32 for entry in si.quadratic.precision.diagonal().values())
    assert si.penalty() == 0.0  # at the last optimum


def test_finetuning_is_no_si():
    si, plain = SI(network(), 40.0), Finetune(network())
    for number in (1, 2):
        for strategy in (si, plain):
            for _ in train(strategy, OPTIMIZERS["adam"](list(strategy.model.parameters())), number):
                pass
    with pytest.raises(AssertionError):
        assert_same_weights(si.model, plain.model, rtol=1e-3, atol=1e-5)
