"""DER++ against its equation, by hand."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from cl_fisher.strategy.batch import Batch
from cl_fisher.strategy.derpp import DERpp

HEADS = [range(2), range(2, 4)]


def batch(task, n=6):
    draw = torch.Generator().manual_seed(task)
    targets = torch.randint(2, (n,), generator=draw) + 2 * (task - 1)
    inputs = torch.randn(n, 3, generator=draw, dtype=torch.float64)
    return Batch(inputs, targets, torch.arange(n), torch.full((n,), task))


def second_task(heads=HEADS, **options):
    """One batch into memory, then other weights; returns also the logits that were stored."""
    torch.manual_seed(0)
    strategy = DERpp(nn.Linear(3, 4).double(), **options)
    strategy.begin_task(1, heads[:1])
    first = batch(1)
    stored = strategy.model(first.inputs)
    plain = stored.sum()
    assert strategy.loss(first, stored, plain) is plain
    strategy.begin_task(2, heads)
    with torch.no_grad():
        strategy.model.weight.mul_(0.3)
    return strategy, stored.detach().clone()


@pytest.mark.parametrize(("alpha", "beta", "strength"), [(0.5, 0.7, 1.0), (0.0, 1.0, 2.0), (1.0, 0.0, 1.0)])
@pytest.mark.parametrize("heads", [HEADS, [range(4)] * 2])
def test_the_loss(alpha, beta, strength, heads):
    """All of the memory is drawn, so that it does not matter in which order."""
    strategy, stored = second_task(heads, alpha=alpha, beta=beta, strength=strength)
    first, second = batch(1), batch(2)
    outputs = strategy.model(first.inputs)
    units = list(heads[0])
    squares = [(outputs[i, j] - stored[i, j]) ** 2 for i in range(6) for j in units]
    likelihood = [cross_entropy(outputs[i, units][None], first.targets[i][None]) for i in range(6)]
    wanted = 3.0 + strength * (alpha * sum(squares) / len(squares) + beta * sum(likelihood) / 6)
    found = strategy.loss(second, strategy.model(second.inputs), torch.tensor(3.0, dtype=torch.float64))
    assert found.item() == pytest.approx(wanted.item(), rel=1e-6)  # logits are stored in single precision
    gradients = [torch.autograd.grad(v, strategy.model.weight, retain_graph=True)[0] for v in (found, wanted)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-7)


def test_no_strength_is_fine_tuning():
    strategy, _ = second_task(strength=0.0)
    plain, second = torch.tensor(3.0), batch(2)
    assert strategy.loss(second, strategy.model(second.inputs), plain) is plain
    assert len(strategy.buffer) == 12


def test_both_batches_are_drawn_on_their_own():
    strategy, _ = second_task(replay_batch_size=2)
    seen = []
    strategy.model.register_forward_pre_hook(lambda _, given: seen.append(given[0].tolist()))
    second = batch(2)
    logits = strategy.model(second.inputs)
    for _ in range(4):
        strategy.loss(second, logits, logits.sum())
    assert [len(x) for x in seen[1:]] == [2] * 8
    assert any(sorted(a) != sorted(b) for a, b in zip(seen[1::2], seen[2::2], strict=True))


def test_memory_holds_logits_of_all_epochs():
    """Of 6 examples in 400 epochs, each time with other logits, 60 times are kept: any time as likely."""
    strategy = DERpp(nn.Linear(3, 4), capacity=60)
    strategy.begin_task(1, HEADS[:1])
    own = batch(1)
    for epoch in range(400):
        strategy.loss(own, torch.full((6, 4), float(epoch)), torch.tensor(0.0))
    epochs = strategy.buffer.columns["logits"][:, 0]
    assert abs(epochs.mean().item() - 199.5) < 4 * 115.5 / 60**0.5
    assert 0.8 < epochs.std().item() / 115.5 < 1.2
    for i, example in enumerate(own.inputs):
        rows = (strategy.buffer.columns["inputs"] == example).all(1)
        assert rows.any()
        assert strategy.buffer.columns["targets"][rows].unique().tolist() == [int(own.targets[i])]


def test_what_another_part_has_added_does_not_enter():
    strategy, _ = second_task()
    second = batch(2)._replace(position=torch.tensor([0, 1, -1, -1, 2, -1]))
    strategy.loss(second, strategy.model(second.inputs), torch.tensor(0.0))
    kept = strategy.buffer.columns
    assert len(strategy.buffer) == 9
    assert torch.equal(kept["inputs"][6:], second.inputs[[0, 1, 4]])
    torch.testing.assert_close(kept["logits"][6:].double(), strategy.model(second.inputs)[[0, 1, 4]].detach())
    assert kept["competed"][6:].tolist() == [[False, False, True, True]] * 3


def test_a_head_that_grows():
    """What entered before is compared over the outputs that there were, wherever it lies in memory by then."""
    strategy, stored = second_task(alpha=1.0, beta=0.0, capacity=9)
    old, strategy.model = strategy.model, nn.Linear(3, 6).double()
    with torch.no_grad():
        for new, before in zip(strategy.model.parameters(), old.parameters(), strict=True):
            new[:4] = before
    strategy.begin_task(2, [range(2), range(2, 6)])
    own, zero = batch(2), torch.tensor(0.0, dtype=torch.float64)
    logits = strategy.model(own.inputs)
    found = strategy.loss(own, logits, zero)
    away = (old(batch(1).inputs) - stored)[:, :2]
    assert found.item() == pytest.approx(away.square().mean().item(), rel=1e-6)
    strategy.loss(own, logits, zero)
    kept = strategy.buffer.columns
    assert kept["logits"].shape == kept["competed"].shape == (9, 6)
    assert all(row in ([True] * 2 + [False] * 4, [False] * 2 + [True] * 4) for row in kept["competed"].tolist())
