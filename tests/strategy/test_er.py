"""Experience replay: which examples a step trains on, and how they are weighted."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from cl_fisher.error import InputError
from cl_fisher.strategy.batch import Batch, masks, nll
from cl_fisher.strategy.er import ER

HEADS = [range(2), range(2, 4), range(4, 6)]


def make(**options):
    torch.manual_seed(0)
    return ER(nn.Linear(3, 6).double(), **options)


def batch(task, n=8):
    draw = torch.Generator().manual_seed(task)
    targets = torch.randint(2, (n,), generator=draw) + 2 * (task - 1)
    inputs = torch.randn(n, 3, generator=draw, dtype=torch.float64)
    return Batch(inputs, targets, torch.arange(n), torch.full((n,), task))


def after_two_tasks(**options):
    strategy = make(**options)
    for task in (1, 2):
        strategy.begin_task(task, HEADS[:task])
        assert strategy.mix(batch(task)) is not None
        strategy.consolidate([batch(task)])
    strategy.begin_task(3, HEADS)
    return strategy


@pytest.mark.parametrize("memory", ["class_balanced", "reservoir"])
def test_the_first_task_is_left_alone(memory):
    strategy = make(memory=memory)
    strategy.begin_task(1, HEADS[:1])
    for _ in range(3):
        own = batch(1)
        assert strategy.mix(own) is own


@pytest.mark.parametrize("memory", ["class_balanced", "reservoir"])
@pytest.mark.parametrize(("size", "wanted"), [(None, 8), (5, 5), (100, 16)])
def test_replayed_examples_come_behind_the_batch_and_keep_their_task(memory, size, wanted):
    strategy, own = after_two_tasks(memory=memory, replay_batch_size=size), batch(3)
    mixed = strategy.mix(own)
    for whole, part in zip(mixed, own, strict=True):
        assert torch.equal(whole[:8], part)
    assert len(mixed.targets) == 8 + wanted
    assert mixed.position[8:].unique().tolist() == [-1]
    known = {tuple(x.tolist()): (int(y), t) for t in (1, 2) for x, y in zip(*batch(t)[:2], strict=True)}
    for x, y, _, t in zip(*(column[8:] for column in mixed), strict=True):
        assert known[tuple(x.tolist())] == (int(y), int(t))


def test_replaying_all_includes_the_current_task():
    strategy = make(memory="reservoir", replay="all")
    strategy.begin_task(1, HEADS[:1])
    own = batch(1)
    assert strategy.mix(own) is own  # the memory is empty until the first batch has been seen
    assert len(strategy.mix(own).targets) == 16


def test_weights_of_tasks():
    strategy = after_two_tasks(weighting="tasks")
    mixed = strategy.mix(batch(3))
    logits = strategy.model(mixed.inputs)
    mean = nll(logits, mixed.targets, mixed.task, masks(HEADS, 6)).mean()
    each = [
        cross_entropy(row[2 * t - 2 : 2 * t][None], target[None] - 2 * (t - 1))
        for row, target, t in zip(logits, mixed.targets, mixed.task.tolist(), strict=True)
    ]
    wanted = torch.stack(each[:8]).mean() / 3 + torch.stack(each[8:]).mean() * 2 / 3
    assert strategy.loss(mixed, logits, mean).item() == pytest.approx(wanted.item(), rel=1e-12)
    assert strategy.loss(mixed, logits, mean + 5).item() == pytest.approx(wanted.item() + 5, rel=1e-12)
    assert make().loss(mixed, logits, mean) is mean


def test_an_unknown_weighting():
    with pytest.raises(InputError, match="weighting=half is unknown"):
        make(weighting="half")
