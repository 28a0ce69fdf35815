"""Riemannian walk against plain loops, in float64."""

import pytest
import torch

from cl_fisher.error import RunError
from cl_fisher.strategy.rwalk import RWalk
from tests.strategy.lockstep import OPTIMIZERS, assert_same_weights, network, train
from tests.strategy.naive import Naive


class NaiveRWalk(Naive):
    """Keeps everything: all gradients of all steps, all weights before and after them."""

    alpha, interval, damping = 0.2, 4, 1e-4
    fisher = score = None

    def begin(self):
        self.trail = []

    def stepped(self, gradients, before):
        squares = [g**2 for g in gradients]
        old = self.fisher or squares
        self.fisher = [self.alpha * new + (1 - self.alpha) * f for new, f in zip(squares, old, strict=True)]
        after = [p.detach().clone() for p in self.parameters]
        self.trail.append((gradients, before, after, self.fisher))

    def end(self, _data, _head):
        score = [torch.zeros_like(p) for p in self.parameters]
        for start in range(0, len(self.trail), self.interval):
            stretch = self.trail[start : start + self.interval]
            for i in range(len(score)):
                fall = -sum(gradients[i] * (after[i] - before[i]) for gradients, before, after, _ in stretch)
                way = stretch[-1][2][i] - stretch[0][1][i]
                score[i] += fall.clamp(min=0) / (0.5 * stretch[-1][3][i] * way**2 + self.damping)
        self.score = score if self.score is None else [(a + b) / 2 for a, b in zip(self.score, score, strict=True)]
        self.importance = [a + b for a, b in zip(unit(self.fisher), unit(self.score), strict=True)]


def unit(tensors):
    every = torch.cat([t.flatten() for t in tensors])
    return [(t - every.min()) / (every.max() - every.min()) for t in tensors]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("step", ["gradient", "proximal"])
@pytest.mark.parametrize("how", [{}, {"clip": 0.3, "accumulate": 2}, {"steps": 8}, {"steps": 3}])
def test_every_step_of_three_tasks_is_that_of_the_plain_loop(optimizer, step, how):
    """Nine steps leave a stretch of one, eight leave none, three are less than one."""
    options = {name: getattr(NaiveRWalk, name) for name in ("alpha", "interval", "damping")}
    rwalk = RWalk(network(), strength=2.0, step=step, **options)
    naive = NaiveRWalk(network(), OPTIMIZERS[optimizer], 2.0, step)
    optimizer_ = OPTIMIZERS[optimizer](list(rwalk.model.parameters()))
    for number in (1, 2, 1):
        for _ in zip(train(rwalk, optimizer_, number, **how), naive.train(number, **how), strict=True):
            assert_same_weights(rwalk.model, naive.model, rtol=1e-8, atol=1e-11)
        for (_, entry), wanted in zip(rwalk.quadratic.precision.diagonal().items(), naive.importance, strict=True):
            torch.testing.assert_close(entry, wanted, rtol=1e-7, atol=1e-11)
            assert 0 <= float(wanted.min()) <= float(wanted.max()) <= 2


def test_a_fisher_that_is_flat_counts_nothing():
    model = network()
    rwalk = RWalk(model)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    rwalk.add_gradient()
    with torch.no_grad():
        model[0].weight[0, 0] -= 1.0
    rwalk.consolidate([])
    found = rwalk.quadratic.precision.diagonal()
    assert float(found["0.weight"][0, 0]) == 1.0
    assert sum(float(entry.sum()) for entry in found.values()) == 1.0


def test_without_a_step_there_is_nothing_to_consolidate():
    with pytest.raises(RunError, match="add_gradient"):
        RWalk(network()).consolidate([])


def test_what_is_frozen_after_a_task_keeps_its_score():
    rwalk = RWalk(network())
    first, last = rwalk.model[0], rwalk.model[-1]
    for _ in train(rwalk, OPTIMIZERS["sgd"](list(rwalk.model.parameters())), 1):
        pass
    score = rwalk.memory()["score_before"]["0.weight"]
    first.requires_grad_(False)
    for _ in train(rwalk, OPTIMIZERS["sgd"](list(last.parameters())), 2):
        pass
    assert torch.equal(rwalk.memory()["score_before"]["0.weight"], score)
    assert float(rwalk.quadratic.precision.diagonal()["0.weight"].max()) > 0


def widened(layer):
    wide = torch.nn.Linear(layer.in_features, layer.out_features + 2).double()
    with torch.no_grad():
        wide.weight[:-2], wide.bias[:-2] = layer.weight, layer.bias
    return wide


def test_a_head_that_grows_begins_with_its_first_gradient_and_its_first_score():
    rwalk = RWalk(network(), strength=3.0, alpha=0.2)
    for _ in train(rwalk, OPTIMIZERS["sgd"](list(rwalk.model.parameters())), 1):
        pass
    fisher, score = (rwalk.memory()[key]["2.weight"] for key in ("fisher", "score_before"))
    rwalk.model[2] = widened(rwalk.model[2])
    optimizer = torch.optim.SGD(rwalk.model.parameters(), lr=0.1)
    rwalk.model(torch.ones(3, 4).double()).square().sum().backward()
    g = rwalk.model[2].weight.grad.clone()
    start = rwalk.model[2].weight.detach().clone()
    rwalk.add_gradient()
    optimizer.step()
    found = rwalk.memory()["fisher"]["2.weight"]
    torch.testing.assert_close(found[:-2], 0.8 * fisher + 0.2 * g[:-2] ** 2)
    torch.testing.assert_close(found[-2:], g[-2:] ** 2)
    rwalk.consolidate([])
    way = rwalk.model[2].weight.detach() - start
    own = (-g * way).clamp(min=0) / (found * way**2 / 2 + 1e-3)
    torch.testing.assert_close(rwalk.memory()["score_before"]["2.weight"][-2:], own[-2:])
    torch.testing.assert_close(rwalk.memory()["score_before"]["2.weight"][:-2], (own[:-2] + score) / 2)
    assert rwalk.penalty() == 0.0


def test_a_head_that_shrinks_is_one_line():
    rwalk = RWalk(network())
    for _ in train(rwalk, OPTIMIZERS["sgd"](list(rwalk.model.parameters())), 1):
        pass
    rwalk.model[2] = torch.nn.Linear(6, 3).double()
    with pytest.raises(RunError, match=r"2\.weight has shape \(3, 6\), .* it may grow, not shrink"):
        rwalk.add_gradient()
