"""Learning without forgetting against loops over examples and heads, in float64."""

import copy
import math

import pytest
import torch
from torch import nn

from cl_fisher.error import InputError, RunError
from cl_fisher.strategy.batch import Batch
from cl_fisher.strategy.finetune import Finetune
from cl_fisher.strategy.lwf import LwF
from tests.strategy.lockstep import (
    HEADS,
    OPTIMIZERS,
    assert_same_weights,
    batches,
    heads_at,
    network,
    task_loss,
    train,
)


def softened(logits, temperature):
    shares = [math.exp(z / temperature) for z in logits.tolist()]
    return [share / sum(shares) for share in shares]


def divergence(taught, logits, old, over, temperature):
    """KL(teacher || student), example by example; the student's part as a graph."""
    total = 0.0
    for one, other in zip(taught, logits, strict=True):
        told = softened(one[old.start : old.stop], temperature)
        z = other[over.start : over.stop] / temperature
        for k, share in zip(old, told, strict=True):
            total = total + share * (math.log(share) - (other[k] / temperature - z.exp().sum().log()))
    return total / len(logits)


def by_definition(weighting, loss, losses, strength):
    """`losses`: one for each earlier task."""
    if weighting == "mean":
        return loss + strength * sum(losses) / len(losses)
    whole = loss + strength * sum(losses)
    return whole if weighting == "sum" else whole / (1 + strength * len(losses))


@pytest.mark.parametrize("scenario", HEADS)
@pytest.mark.parametrize("over", ["old", "current"])
@pytest.mark.parametrize("weighting", ["sum", "mean", "share"])
def test_every_step_of_two_tasks_is_that_of_the_plain_loop(scenario, over, weighting):
    lwf = LwF(network(), strength=0.7, temperature=3.0, weighting=weighting, over=over)
    model = network()
    optimizers = [OPTIMIZERS["adam"](list(m.parameters())) for m in (lwf.model, model)]
    for _ in train(lwf, optimizers[0], 1, scenario):
        pass
    for batch in batches(1, scenario):
        optimizers[1].zero_grad()
        task_loss(model, batch, heads_at(1, scenario)).backward()
        optimizers[1].step()
    teacher = copy.deepcopy(model)
    old, now = heads_at(1, scenario)[0], heads_at(2, scenario)[0]
    for _, batch in zip(train(lwf, optimizers[0], 2, scenario), batches(2, scenario), strict=True):
        optimizers[1].zero_grad()
        logits, taught = model(batch.inputs), teacher(batch.inputs).detach()
        distilled = divergence(taught, logits, old, now if over == "current" else old, 3.0)
        loss = task_loss(model, batch, heads_at(2, scenario))
        by_definition(weighting, loss, [distilled], 0.7).backward()
        optimizers[1].step()
        assert_same_weights(lwf.model, model, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("weighting", ["sum", "mean", "share"])
def test_each_earlier_head_counts_once(weighting):
    """Three tasks of different heads, and three that share theirs."""
    model, x = network(), torch.randn(5, 4, generator=torch.Generator().manual_seed(0)).double()
    for heads in ([range(2), range(2, 4), range(1, 4), range(4)], [range(4)] * 4):
        lwf = LwF(copy.deepcopy(model), strength=0.7, weighting=weighting)
        lwf.begin_task(3, heads[:3])
        lwf.consolidate([])
        taught = lwf.model(x).detach()
        with torch.no_grad():
            lwf.model[0].weight.mul_(-2.0)
        lwf.begin_task(4, heads)
        logits, loss = lwf.model(x), torch.tensor(2.0).double()
        batch = Batch(x, torch.zeros(5, dtype=torch.int64), torch.arange(5), torch.full((5,), 4))
        losses = [divergence(taught, logits, head, head, 2.0) for head in heads[:3]]
        assert max(losses) > 0.01
        wanted = by_definition(weighting, loss, losses, 0.7)
        torch.testing.assert_close(lwf.loss(batch, logits, loss), wanted, rtol=1e-10, atol=0)


def test_a_strength_of_one_and_shares_are_the_published_weights():
    """van de Ven & Tolias 2019: 1/t of the current loss, 1 - 1/t of the distillation."""
    lwf = LwF(network(), strength=1.0, weighting="share")
    lwf.begin_task(4, [range(4)] * 4)
    lwf.consolidate([])
    x = torch.ones(3, 4).double()
    with torch.no_grad():
        taught = lwf.model(x)
        lwf.model[0].weight.mul_(-2.0)
    lwf.begin_task(5, [range(4)] * 5)
    distilled = divergence(taught, lwf.model(x), range(4), range(4), 2.0)
    batch = Batch(x, torch.zeros(3, dtype=torch.int64), torch.arange(3), torch.full((3,), 5))
    got = lwf.loss(batch, lwf.model(x), torch.tensor(2.0).double())
    torch.testing.assert_close(got, 2.0 / 5 + 0.8 * distilled)


class Mode(nn.Linear):
    """Tells in which mode it runs, and whether it has dropout and statistics to show."""

    def forward(self, x):
        self.seen = self.training
        return super().forward(x)


def test_the_teacher_is_frozen_in_evaluation_mode_and_no_part_of_the_model():
    model = nn.Sequential(nn.BatchNorm1d(4), Mode(4, 4), nn.Dropout(0.5)).double().train()
    lwf = LwF(model)
    before = dict(model.named_parameters())
    lwf.begin_task(1, [range(2)])
    lwf.consolidate([])
    assert model.training
    assert dict(model.named_parameters()).keys() == before.keys()
    assert all(p.requires_grad for p in model.parameters())
    assert not any(p.requires_grad for p in lwf._teacher.parameters())
    lwf.begin_task(2, [range(2), range(2, 4)])
    x = torch.randn(6, 4).double()
    batch = Batch(x, torch.zeros(6, dtype=torch.int64), torch.arange(6), torch.full((6,), 2))
    statistics = lwf._teacher[0].running_mean.clone()
    torch.manual_seed(3)
    drawn = torch.rand(1)
    torch.manual_seed(3)
    lwf.loss(batch, torch.zeros(6, 4).double(), torch.zeros(()).double())
    assert torch.equal(torch.rand(1), drawn), "the teacher draws nothing"
    assert lwf._teacher[1].seen is False
    assert torch.equal(lwf._teacher[0].running_mean, statistics)
    pairs = zip(model.parameters(), lwf._teacher.parameters(), strict=True)
    assert not any(own.data_ptr() == taught.data_ptr() for own, taught in pairs)
    assert lwf.state_bytes == sum(t.numel() * t.element_size() for t in lwf._teacher.state_dict().values())


def test_the_teacher_of_a_checkpoint_follows_the_model_to_its_precision():
    """A checkpoint is read before the Trainer gives the model its device and type."""
    lwf, again = LwF(network().to(torch.bfloat16)), LwF(network().float())
    lwf.begin_task(1, [range(2)])
    lwf.consolidate([])
    again.load_state_dict(lwf.state_dict())
    again.model.to(torch.bfloat16)
    (batch,) = batches(2, steps=1)
    batch = batch._replace(inputs=batch.inputs.to(torch.bfloat16))
    losses = []
    for strategy in (lwf, again):
        strategy.begin_task(2, heads_at(2))
        logits = network(seed=1).to(torch.bfloat16)(batch.inputs)
        losses.append(strategy.loss(batch, logits, torch.zeros(())).item())
    assert losses[0] == losses[1] > 0


def test_it_must_be_told_of_tasks_and_takes_known_words():
    with pytest.raises(RunError, match="begin_task"):
        LwF(network()).consolidate([])
    with pytest.raises(InputError, match="sum, mean, share"):
        LwF(network(), weighting="by_tasks")
    with pytest.raises(InputError, match="old, current"):
        LwF(network(), over="new")


def test_old_answers_stay_where_they_were():
    moved = {}
    for strategy in (LwF(network(), strength=10.0), Finetune(network())):
        optimizer = OPTIMIZERS["adam"](list(strategy.model.parameters()))
        for _ in train(strategy, optimizer, 1, steps=30):
            pass
        x = next(iter(batches(2))).inputs
        before = strategy.model(x)[:, :2].softmax(-1).detach()
        for _ in train(strategy, optimizer, 2, steps=60):
            pass
        moved[type(strategy)] = float((strategy.model(x)[:, :2].softmax(-1) - before).detach().abs().max())
    assert moved[LwF] < 0.3 * moved[Finetune]


def test_a_teacher_from_before_the_head_grew(tmp_path):
    strategy = LwF(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)))
    strategy.begin_task(1, [range(2)])
    strategy.consolidate([])
    strategy.model[1] = nn.Linear(4, 5)
    strategy.begin_task(2, [range(2), range(2, 5)])
    torch.save(strategy.state_dict(), tmp_path / "state.pt")
    again = LwF(copy.deepcopy(strategy.model))
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    batch = Batch(torch.randn(6, 3), torch.full((6,), 2), torch.arange(6), torch.full((6,), 2))
    logits = strategy.model(batch.inputs)
    found = again.loss(batch, logits, logits.sum())
    assert torch.equal(found, strategy.loss(batch, logits, logits.sum()))
    assert again.model[1].weight.shape == (5, 4)
