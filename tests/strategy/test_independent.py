"""One network a task: each is what training on its task alone would have made, and predicts it for ever."""

import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from cl_fisher.cli.main import main
from cl_fisher.strategy.compose import Compose
from cl_fisher.strategy.finetune import Finetune
from cl_fisher.strategy.independent import Independent

HEADS = [range(2), range(2, 4), range(4, 6)]


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 6))


def data(task):
    generator = torch.Generator().manual_seed(task)
    return torch.randn(16, 4, generator=generator), torch.randint(0, 2, (16,), generator=generator)


def train(model, task, steps=5):
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    inputs, targets = data(task)
    for _ in range(steps):
        optimizer.zero_grad()
        head = HEADS[task - 1]
        cross_entropy(model(inputs)[:, head.start : head.stop], targets).backward()
        optimizer.step()


def begin(strategy, task):
    strategy.begin_task(task, HEADS[:task])


def scores(strategy, task):
    strategy.model.eval()
    with torch.no_grad(), strategy.serving(task) as predict:
        return predict(data(9)[0])


def alone(task):
    model = network()
    train(model, task)
    return model.eval()(data(9)[0]).detach()


def after_three():
    strategy = Independent(network())
    for task in (1, 2, 3):
        begin(strategy, task)
        train(strategy.model, task)
    return strategy


def test_each_task_is_served_by_the_network_that_training_on_it_alone_makes():
    strategy = after_three()
    for task in (1, 2, 3):
        assert torch.equal(scores(strategy, task), alone(task))
    assert not torch.equal(alone(1), alone(2))


def test_a_task_that_has_not_begun_is_served_by_the_initial_network():
    strategy = Independent(network())
    initial = network().eval()(data(9)[0]).detach()
    assert torch.equal(scores(strategy, 1), initial)
    begin(strategy, 1)
    train(strategy.model, 1)
    assert torch.equal(scores(strategy, 2), initial)
    assert not torch.equal(scores(strategy, 1), initial)


def test_serving_puts_everything_back_also_after_an_error():
    strategy = after_three()
    before = copy.deepcopy(strategy.model.state_dict())

    def fail():
        with strategy.serving(1):
            raise KeyError

    scores(strategy, 1)
    with pytest.raises(KeyError):
        fail()
    assert all(torch.equal(t, before[name]) for name, t in strategy.model.state_dict().items())


def test_state_survives(tmp_path):
    strategy = after_three()
    torch.save({"strategy": strategy.state_dict(), "model": strategy.model.state_dict()}, tmp_path / "s.pt")
    state = torch.load(tmp_path / "s.pt", weights_only=True)
    other = network()
    train(other, 3, steps=1)
    twin = Independent(other)
    twin.model.load_state_dict(state["model"])
    twin.load_state_dict(state["strategy"])
    for task in (1, 2, 3, 4):
        assert torch.equal(scores(twin, task), scores(strategy, task))
    for s in (strategy, twin):
        s.begin_task(4, [*HEADS, None])
    assert all(torch.equal(a, b) for a, b in zip(strategy.model.parameters(), twin.model.parameters(), strict=True))
    assert torch.equal(strategy.model[0].weight, network()[0].weight)


def test_memory_is_a_network_a_task():
    strategy = Independent(network())
    size = strategy.state_bytes
    for task in (1, 2, 3):
        begin(strategy, task)
        assert strategy.state_bytes == task * size


@pytest.mark.parametrize("scenario", ["domain", "class"])
def test_refused_where_the_task_is_not_known(scenario, capsys, tmp_path):
    out = f"output_dir={tmp_path / 'x'}"
    assert main(["run", "strategy=independent", f"scenario={scenario}", "logger=none", out]) == 2
    assert "which one to ask must be known; it can be task" in capsys.readouterr().err


def test_it_goes_with_what_does_not_decide_over_networks():
    both = Compose(network(), {"own": Independent, "plain": partial(Finetune)})
    assert both.starts_anew
    begin(both, 1)
    train(both.model, 1)
    begin(both, 2)
    assert torch.equal(scores(both, 1), alone(1))
