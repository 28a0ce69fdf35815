"""EWC and online EWC: penalties and gradients against their definitions, in float64."""

import copy
import io

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from cl_fisher import EWC, OnlineEWC
from cl_fisher.error import InputError, RunError
from cl_fisher.fisher import estimate_fisher

STRATEGIES = [EWC, OnlineEWC]


def network(seed=0, outputs=3):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, outputs)).double()


def data(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(12, 4, generator=generator, dtype=torch.float64), torch.randint(0, 3, (12,), generator=generator)


def wander(model, seed):
    torch.manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))


def go_through_tasks(strategy, n_tasks):
    """Consolidate tasks at different weights; returns what an independent memory of them holds."""
    memory = []
    for task in range(n_tasks):
        wander(strategy.model, 10 + task)
        fisher = estimate_fisher(strategy.model, [data(task)]).diagonal()
        memory.append((fisher, copy.deepcopy(dict(strategy.model.named_parameters()))))
        strategy.consolidate([data(task)])
    wander(strategy.model, 99)
    return memory


def penalty_by_definition(model, memory, strength):
    """strength/2 * sum_t (theta - theta_t)^T F_t (theta - theta_t), with a graph."""
    return (
        0.5
        * strength
        * sum(
            (f[name] * (p - anchor[name].detach()) ** 2).sum()
            for f, anchor in memory
            for name, p in model.named_parameters()
        )
    )


@pytest.mark.parametrize("n_tasks", [1, 2, 4])
def test_ewc_is_the_sum_of_one_penalty_per_task(n_tasks):
    ewc = EWC(network(), strength=7.0)
    expected = penalty_by_definition(ewc.model, go_through_tasks(ewc, n_tasks), 7.0)
    assert ewc.penalty() == pytest.approx(expected.item(), rel=1e-10)
    expected.backward()
    truth = [p.grad.clone() for p in ewc.model.parameters()]
    ewc.model.zero_grad()
    ewc.add_gradient()
    for p, g in zip(ewc.model.parameters(), truth, strict=True):
        torch.testing.assert_close(p.grad, g, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
def test_online_ewc_is_one_penalty_at_the_last_optimum(gamma):
    online = OnlineEWC(network(), strength=7.0, gamma=gamma)
    memory = go_through_tasks(online, 3)
    precision = {name: sum(gamma ** (2 - t) * memory[t][0][name] for t in range(3)) for name in memory[0][0]}
    expected = penalty_by_definition(online.model, [(precision, memory[-1][1])], 7.0)
    assert online.penalty() == pytest.approx(expected.item(), rel=1e-10)
    expected.backward()
    truth = [p.grad.clone() for p in online.model.parameters()]
    online.model.zero_grad()
    online.add_gradient()
    for p, g in zip(online.model.parameters(), truth, strict=True):
        torch.testing.assert_close(p.grad, g, rtol=1e-10, atol=1e-12)


def test_the_two_differ_from_the_second_task_on():
    one, online = EWC(network()), OnlineEWC(network())
    go_through_tasks(one, 1)
    go_through_tasks(online, 1)
    assert one.penalty() == pytest.approx(online.penalty())
    one, online = EWC(network()), OnlineEWC(network())
    go_through_tasks(one, 2)
    go_through_tasks(online, 2)
    assert abs(one.penalty() - online.penalty()) > 1e-3 * one.penalty()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_gradient_is_added_to_what_is_there(strategy):
    ewc = strategy(network(), strength=2.0)
    go_through_tasks(ewc, 2)
    ewc.model.zero_grad()
    ewc.add_gradient()
    alone = [p.grad.clone() for p in ewc.model.parameters()]
    ewc.model.zero_grad()
    inputs, targets = data(5)
    cross_entropy(ewc.model(inputs), targets).backward()
    task = [p.grad.clone() for p in ewc.model.parameters()]
    ewc.add_gradient()
    for p, a, t in zip(ewc.model.parameters(), alone, task, strict=True):
        torch.testing.assert_close(p.grad, a + t)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_time_and_memory_do_not_grow_with_the_tasks(strategy):
    ewc = strategy(network())

    def size():
        file = io.BytesIO()
        torch.save(ewc.state_dict(), file)
        return file.tell()

    sizes = []
    for task in range(6):
        ewc.consolidate([data(task)])
        sizes.append(size())
    assert max(sizes) - min(sizes) <= 128, sizes  # of the archive's alignment


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_task_or_no_strength_leaves_gradients_alone(strategy):
    ewc = strategy(network(), strength=5.0)
    ewc.add_gradient()
    assert all(p.grad is None for p in ewc.model.parameters())
    assert ewc.penalty() == 0.0
    idle = strategy(network(), strength=0)
    go_through_tasks(idle, 2)
    idle.add_gradient()
    assert all(p.grad is None for p in idle.model.parameters())
    assert idle.penalty() == 0.0


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_state_survives(strategy, tmp_path):
    ewc = strategy(network(), strength=3.0)
    go_through_tasks(ewc, 3)
    torch.save(ewc.state_dict(), tmp_path / "state.pt")
    twin = strategy(copy.deepcopy(ewc.model), strength=3.0)
    twin.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert twin.penalty() == ewc.penalty()
    for s in (ewc, twin):
        s.model.zero_grad()
        s.consolidate([data(7)])
        wander(s.model, 3)
        s.add_gradient()
    for a, b in zip(ewc.model.parameters(), twin.model.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_frozen_parameters_are_left_alone(strategy):
    model = network()
    model[0].weight.requires_grad_(False)
    ewc = strategy(model)
    ewc.consolidate([data(0)])
    model[2].requires_grad_(False)  # from now on
    wander(model, 1)
    ewc.add_gradient()
    assert [p.grad is None for p in model.parameters()] == [True, False, True, True]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("first", [["0.weight", "2.bias"], ["2.weight"]])
def test_parameters_freed_and_frozen_between_tasks(strategy, first):
    """Each task speaks of the parameters that it trained; the penalty by definition is the sum of what they say."""
    ewc, memory = strategy(network(), strength=3.0), []
    for task, free in enumerate([first, ["0.weight", "0.bias", "2.weight", "2.bias"], ["0.bias", "2.bias"]]):
        for name, p in ewc.model.named_parameters():
            p.requires_grad_(name in free)
        wander(ewc.model, task)
        memory.append(
            (estimate_fisher(ewc.model, [data(task)]).diagonal(), copy.deepcopy(dict(ewc.model.named_parameters())))
        )
        ewc.consolidate([data(task)])
    wander(ewc.model, 9)
    ewc.model.requires_grad_(True)
    expected = 0.0
    for fisher, anchor in memory:
        centre = anchor if strategy is EWC else memory[-1][1]
        for name, p in ewc.model.named_parameters():
            if name in fisher:
                expected += 1.5 * (fisher[name] * (p.detach() - centre[name].detach()) ** 2).sum().item()
    assert ewc.penalty() == pytest.approx(expected, rel=1e-10)


def test_only_the_parameters_of_the_optimizer_that_steps():
    ewc = EWC(network())
    ewc.consolidate([data(0)])
    wander(ewc.model, 1)
    ewc.add_gradient(ewc.model[0].parameters())
    assert [p.grad is None for p in ewc.model.parameters()] == [False, False, True, True]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_that_changes_its_type(strategy, dtype):
    ewc = strategy(network(), strength=2.0)
    go_through_tasks(ewc, 2)
    ewc.add_gradient()
    expected = [p.grad.clone() for p in ewc.model.parameters()]
    ewc.model.zero_grad()
    ewc.model.to(dtype)
    ewc.add_gradient()
    for p, g in zip(ewc.model.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, g.to(dtype), rtol=0.1, atol=0.02)
    ewc.model.zero_grad()
    ewc.consolidate([(x.to(dtype), y) for x, y in [data(3)]])
    ewc.add_gradient()


def test_a_head_that_shrinks_is_one_line():
    ewc = EWC(network(outputs=3))
    ewc.consolidate([data(0)])
    ewc.model[2] = nn.Linear(5, 2).double()
    with pytest.raises(RunError, match=r"2\.weight has shape \(2, 5\).*\(3, 5\).*not shrink"):
        ewc.penalty()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_head_that_grows(strategy):
    """Old rows stay protected, new ones are free until they are consolidated."""
    ewc = strategy(network(outputs=3))
    ewc.consolidate([data(0)])
    small, head = ewc.model[2], nn.Linear(5, 5).double()
    with torch.no_grad():
        head.weight[:3], head.bias[:3] = small.weight, small.bias
    ewc.model[2] = head
    assert ewc.penalty() == 0.0
    wander(ewc.model, 1)
    ewc.add_gradient()
    assert head.weight.grad[:3].abs().min() > 0
    assert head.weight.grad[3:].abs().max() == 0
    ewc.consolidate([data(1)])
    wander(ewc.model, 2)
    ewc.add_gradient()
    assert head.weight.grad[3:].abs().min() > 0


def test_a_parameter_that_has_gone_is_noticed():
    ewc = EWC(network())
    ewc.consolidate([data(0)])
    ewc.model = nn.Sequential(nn.Linear(4, 3)).double()
    with pytest.raises(RunError, match=r"no longer has the parameter 2\.weight"):
        ewc.add_gradient()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_fisher_of_zero_fails_loudly_once_it_would_be_used(strategy):
    model = network().float()
    with torch.no_grad():
        model[2].bias[0] = 1e4  # every other probability underflows
    ewc = strategy(model)
    inputs, targets = data(0)
    fisher = ewc.consolidate([(inputs.float(), torch.zeros_like(targets))])
    assert fisher.trace() == 0.0
    with pytest.raises(RunError, match="zero everywhere"):
        ewc.add_gradient()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": -1}, "strength=-1 is out of range"),
        ({"strength": float("nan")}, "strength=nan"),
        ({"samples": 0}, "samples=0"),
    ],
)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_bad_options(strategy, options, message):
    with pytest.raises(InputError, match=message):
        strategy(network(), **options)


@pytest.mark.parametrize("gamma", [-0.1, 1.1])
def test_gamma_out_of_range(gamma):
    with pytest.raises(InputError, match="gamma="):
        OnlineEWC(network(), gamma=gamma)


def test_ewc_in_a_plain_loop_forgets_less():
    """The README's loop, on two tasks that disagree."""

    def train(strength):
        model = network(1)
        ewc = EWC(model, strength=strength)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        for task in range(2):
            inputs, targets = data(task)
            for _ in range(200):
                optimizer.zero_grad()
                cross_entropy(model(inputs), targets).backward()
                ewc.add_gradient()
                optimizer.step()
            ewc.consolidate([(inputs, targets)])
        with torch.no_grad():
            return [cross_entropy(model(data(t)[0]), data(t)[1]).item() for t in range(2)]

    without, with_ewc = train(0.0), train(1.0)
    assert with_ewc[0] < 0.5 * without[0]
    assert sum(with_ewc) < sum(without)
