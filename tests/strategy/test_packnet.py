"""PackNet: whose each weight is, that it never moves again, and that old tasks are predicted as they were."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from cl_fisher.cli.main import main
from cl_fisher.error import InputError
from cl_fisher.strategy.batch import Batch
from cl_fisher.strategy.packnet import PackNet

HEADS = [range(2), range(2, 4), range(4, 6)]
OPTIMIZERS = {
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1),
}


def network(norm=True):
    torch.manual_seed(0)
    middle = nn.BatchNorm2d(3) if norm else nn.Identity()
    return nn.Sequential(
        nn.Conv2d(1, 3, 2), middle, nn.ReLU(), nn.Flatten(), nn.Linear(12, 10), nn.ReLU(), nn.Linear(10, 6)
    )


def data(task):
    generator = torch.Generator().manual_seed(task)
    return torch.randn(16, 1, 3, 3, generator=generator), torch.randint(0, 2, (16,), generator=generator)


def train(strategy, task, optimizer, steps=6):
    strategy.begin_task(task, HEADS[:task])
    strategy.model.train()
    inputs, targets = data(task)
    targets = targets + HEADS[task - 1].start
    batch = Batch(inputs, targets, torch.arange(16), torch.full((16,), task))
    for _ in range(steps):
        mixed = strategy.mix(batch)
        optimizer.zero_grad()
        head = HEADS[task - 1]
        cross_entropy(strategy.model(mixed.inputs)[:, head.start : head.stop], targets - head.start).backward()
        strategy.add_gradient()
        optimizer.step()
        strategy.after_step(optimizer)
    strategy.consolidate([])


def scores(strategy, task):
    modes = [m.training for m in strategy.model.modules()]
    strategy.model.eval()
    with torch.no_grad(), strategy.serving(task) as predict:
        found = predict(data(9)[0])[:, HEADS[task - 1].start : HEADS[task - 1].stop]
    for m, mode in zip(strategy.model.modules(), modes, strict=True):
        m.training = mode
    return found


@pytest.mark.parametrize("prune_after", [None, 3, 100])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_old_task_is_predicted_bit_for_bit_as_it_was(optimizer, prune_after):
    strategy = PackNet(network(), prune_after=prune_after)
    steps = OPTIMIZERS[optimizer](strategy.model.parameters())
    then = {}
    for task in (1, 2, 3):
        train(strategy, task, steps)
        then[task] = scores(strategy, task)
        assert all(torch.equal(scores(strategy, t), s) for t, s in then.items())
    assert not torch.equal(scores(strategy, 3), strategy.model.eval()(data(9)[0])[:, :2])


def test_an_old_task_is_predicted_as_it_was_in_the_middle_of_another_one():
    strategy = PackNet(network())
    optimizer = OPTIMIZERS["momentum"](strategy.model.parameters())
    train(strategy, 1, optimizer)
    then = scores(strategy, 1)
    strategy.consolidate = lambda _: None
    train(strategy, 2, optimizer)
    assert torch.equal(scores(strategy, 1), then)


def test_whose_the_weights_are():
    """Half of what is free is kept at each task, the largest, layer by layer; what is owned never moves again."""
    strategy = PackNet(network(), prune=0.5)
    optimizer = OPTIMIZERS["momentum"](strategy.model.parameters())
    owned = {}
    for task in (1, 2, 3):
        train(strategy, task, optimizer)
        weights = {name: p.detach().clone() for name, p in strategy.model.named_parameters()}
        owner = copy.deepcopy(strategy.memory()["owner"])
        assert set(owner) == {"0.weight", "4.weight"}
        for name, own in owner.items():
            assert int((own == 0).sum()) == pytest.approx(own.numel() / 2**task, abs=1)
            assert bool((weights[name][own == 0] == 0).all())
            assert bool((weights[name][own == task] != 0).all())
            for t, (before, values) in owned.items():
                assert torch.equal(own == t, before[name] == t)
                assert torch.equal(weights[name][own == t], values[name][own == t])
        owned[task] = owner, weights


def test_the_largest_are_kept():
    """By a naive sort, without training in between."""
    strategy = PackNet(network(), prune=0.75)
    before = strategy.model[4].weight.detach().clone().flatten()
    strategy.begin_task(1, HEADS[:1])
    strategy.consolidate([])
    kept = sorted(range(120), key=lambda i: -abs(float(before[i])))[:30]
    expected = torch.zeros(120)
    expected[kept] = before[kept]
    assert torch.equal(strategy.model[4].weight.flatten(), expected)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_what_else_may_move(optimizer):
    """Biases and norms in the first task, rows of the output layer in their own, running statistics in the first."""
    strategy = PackNet(network())
    steps = OPTIMIZERS[optimizer](strategy.model.parameters())
    for task in (1, 2, 3):
        before = copy.deepcopy(strategy.model.state_dict())
        train(strategy, task, steps)
        after = strategy.model.state_dict()
        for name in ("0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "4.bias"):
            assert torch.equal(before[name], after[name]) == (task > 1), name
        for name in ("6.weight", "6.bias"):
            rows = (before[name] != after[name]).reshape(6, -1).any(1).nonzero().flatten()
            assert rows.tolist() == list(HEADS[task - 1])


def test_pruning_within_a_task_leaves_time_to_train_what_is_kept():
    strategy = PackNet(network(norm=False), prune_after=2)
    optimizer = OPTIMIZERS["momentum"](strategy.model.parameters())
    strategy.begin_task(1, HEADS[:1])
    seen = []
    for _ in range(4):
        optimizer.zero_grad()
        cross_entropy(strategy.model(data(1)[0])[:, :2], data(1)[1]).backward()
        strategy.add_gradient()
        optimizer.step()
        strategy.after_step(optimizer)
        seen.append(strategy.model[4].weight.detach().clone())
    zeros = [int((w == 0).sum()) for w in seen]
    assert zeros == [0, 60, 60, 60]
    assert torch.equal(seen[1] == 0, seen[3] == 0)
    assert not torch.equal(seen[1], seen[3])
    strategy.consolidate([])
    assert torch.equal(strategy.model[4].weight, seen[3])


def test_clipping_sees_the_task_s_own_gradient_only():
    strategy = PackNet(network())
    train(strategy, 1, OPTIMIZERS["momentum"](strategy.model.parameters()))
    strategy.begin_task(2, HEADS[:2])
    for p in strategy.model.parameters():
        p.grad = torch.ones_like(p)
    strategy.add_gradient(strategy.model[0].parameters())
    assert float(strategy.model[0].bias.grad.abs().max()) == 0
    assert float(strategy.model[0].weight.grad.sum()) == 6
    assert float(strategy.model[4].bias.grad.min()) == 1


def test_serving_puts_everything_back_also_after_an_error():
    strategy = PackNet(network())
    optimizer = OPTIMIZERS["momentum"](strategy.model.parameters())
    for task in (1, 2):
        train(strategy, task, optimizer)
    before = copy.deepcopy(strategy.model.state_dict())

    def fail():
        with strategy.serving(1):
            assert not torch.equal(strategy.model[4].weight, before["4.weight"])
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert all(torch.equal(t, before[name]) for name, t in strategy.model.state_dict().items())


def test_state_survives(tmp_path):
    strategy = PackNet(network())
    optimizer = OPTIMIZERS["momentum"](strategy.model.parameters())
    for task in (1, 2):
        train(strategy, task, optimizer)
    torch.save({"strategy": strategy.state_dict(), "model": strategy.model.state_dict()}, tmp_path / "s.pt")
    state = torch.load(tmp_path / "s.pt", weights_only=True)
    twin = PackNet(network())
    twin.model.load_state_dict(state["model"])
    twin.load_state_dict(state["strategy"])
    assert torch.equal(scores(twin, 1), scores(strategy, 1))
    for s in (strategy, twin):
        train(s, 3, OPTIMIZERS["momentum"](s.model.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(strategy.model.parameters(), twin.model.parameters(), strict=True))
    assert torch.equal(scores(twin, 2), scores(strategy, 2))


@pytest.mark.parametrize("scenario", ["domain", "class"])
def test_refused_where_the_task_is_not_known(scenario, capsys, tmp_path):
    out = f"output_dir={tmp_path / 'x'}"
    assert main(["run", "strategy=packnet", f"scenario={scenario}", "logger=none", out]) == 2
    assert "and which one must be known; it can be task" in capsys.readouterr().err


@pytest.mark.parametrize(
    "strategy", [["strategy=packnet"], ["strategy=compose", "strategy@strategy.parts.penalty=packnet"]]
)
def test_refused_where_the_rows_of_earlier_tasks_were_to_be_free(strategy, capsys, tmp_path):
    options = ["scenario=task", "benchmark=split", "logger=none", f"output_dir={tmp_path}/x"]
    assert main(["run", *strategy, *options, "scenario.old_rows=free"]) == 2
    assert "scenario.old_rows=free is not possible with PackNet" in capsys.readouterr().err


def test_a_network_without_a_linear_layer_is_refused():
    with pytest.raises(InputError, match="ends in a linear layer"):
        PackNet(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten()))


@pytest.mark.parametrize("option", [{"prune": 1.0}, {"prune": -0.1}, {"prune_after": 0}])
def test_options_out_of_range(option):
    with pytest.raises(InputError, match=f"{next(iter(option))}="):
        PackNet(network(), **option)
