"""Output rows of earlier tasks' classes: frozen, free of the penalty, or like any weight."""

import itertools

import pytest
import torch
from torch import nn

from cl_fisher.benchmark.task import Scenario
from cl_fisher.error import InputError
from cl_fisher.event import RunStarted
from cl_fisher.strategy.cumulative import Cumulative
from cl_fisher.strategy.ewc import EWC
from cl_fisher.strategy.finetune import Finetune
from cl_fisher.training.rows import OutputRows

STARTED = RunStarted(3, 3, {}, {})
SGD = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1}
OPTIMIZERS = pytest.mark.parametrize("sgd", [None, SGD], ids=["adam", "sgd"])
SCENARIOS = pytest.mark.parametrize("name", ["task", "class"])


def output(stream):
    """Weight and bias of the output layer as one matrix [outputs, inputs + 1]."""
    layer = stream.model[-1]
    return torch.cat([layer.weight.detach(), layer.bias.detach()[:, None]], 1).clone()


def rows_at_boundaries(stream):
    """The output layer as each task found it, and at the end."""
    found, begin = [], stream.strategy.begin_task
    stream.strategy.begin_task = lambda number, heads: found.append(output(stream)) or begin(number, heads)
    stream.run(STARTED)
    return [*found, output(stream)]


@OPTIMIZERS
@SCENARIOS
@pytest.mark.parametrize(
    ("strategy", "options"),
    [(EWC, {"strength": 3.0}), (EWC, {"strength": 3.0, "step": "proximal"}), (Finetune, {})],
    ids=["gradient", "proximal", "finetune"],
)
def test_frozen_rows_do_not_move_by_a_bit(make_stream, name, sgd, strategy, options):
    scenario = Scenario(name, old_rows="frozen")
    stream = make_stream(strategy, "split", scenario, n_tasks=3, sgd=sgd, options=options)
    for number, (before, after) in enumerate(itertools.pairwise(rows_at_boundaries(stream)), start=1):
        moved = (before != after).any(1)
        own = stream.sequence.tasks[number - 1].units
        assert not bool(moved[: own.start].any())
        assert bool(moved[own.start : own.stop].all())


@OPTIMIZERS
@SCENARIOS
def test_rows_that_are_not_frozen_move(make_stream, name, sgd):
    """In a class-incremental sequence by their gradient, in a task-incremental one by what the optimizer remembers."""
    stream = make_stream(EWC, "split", Scenario(name), n_tasks=3, sgd=sgd, options={"strength": 3.0})
    *_, before, after = rows_at_boundaries(stream)
    assert bool((before != after).any(1).all())


def watched(stream):
    """What the strategy does to the output layer in each step of task 2: before and after, as they really were."""
    seen = []
    strategy, rows = stream.strategy, stream.module.rows
    layer, spared = stream.model[-1], rows.spared

    def look(of):
        if of == "weights":
            return output(stream)
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in (layer.weight, layer.bias)]
        return torch.cat([grads[0], grads[1][:, None]], 1).clone()

    class Looking:
        def __init__(self, of):
            self.of, self.inner = of, spared(of)

        def __enter__(self):
            self.before = look(self.of)
            self.inner.__enter__()

        def __exit__(self, *error):
            self.inner.__exit__(*error)
            seen.append((self.of, self.before, look(self.of)))

    rows.spared = Looking
    assert strategy.strength > 0
    return seen


@OPTIMIZERS
@SCENARIOS
@pytest.mark.parametrize("step", ["gradient", "proximal"])
@pytest.mark.parametrize("structure", ["diagonal", "kronecker"])
@pytest.mark.parametrize("policy", ["free", "penalised"])
def test_free_rows_feel_no_penalty(make_stream, name, sgd, step, structure, policy):
    """Each time that the penalty acts, their gradient and their weights are left as they were, and no others'."""
    options = {"strength": 3.0, "step": step, "structure": structure}
    scenario = Scenario(name, old_rows=policy)
    stream = make_stream(EWC, "split", scenario, sgd=sgd, options=options, iterations=3)
    stream.train(stream.phases[0])
    stream.consolidation.end_task(stream.phases[0], 0)
    with torch.no_grad():
        for p in stream.model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    seen = watched(stream)
    stream.train(stream.phases[1])
    acts = "grad" if step == "gradient" else "weights"
    old = stream.sequence.tasks[0].units.stop
    assert [of for of, _, _ in seen] == ["grad", "weights"] * 3
    for of, before, after in seen:
        touched = (before != after).any(1)
        assert bool(touched[:old].any()) == (of == acts and policy == "penalised")
        if of != acts:
            assert not bool(touched.any())


def test_free_rows_leave_the_penalty_on_everything_else(make_stream):
    """Beside the free rows the gradient is that of the penalty, bit for bit."""
    stream = make_stream(EWC, "split", Scenario("class", old_rows="free"), options={"strength": 3.0})
    stream.train(stream.phases[0])
    stream.consolidation.end_task(stream.phases[0], 0)
    with torch.no_grad():
        for p in stream.model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    stream.module.rows.begin(range(5))
    for p in stream.model.parameters():
        p.grad = torch.full_like(p, 0.5)
    stream.strategy.add_gradient()
    expected = [p.grad.clone() for p in stream.model.parameters()]
    for kept in expected[-2:]:
        assert float((kept[:5] - 0.5).abs().max()) > 0
        kept[:5] = 0.5
    for p in stream.model.parameters():
        p.grad = torch.full_like(p, 0.5)
    stream.module.on_before_optimizer_step(None)
    assert all(torch.equal(p.grad, e) for p, e in zip(stream.model.parameters(), expected, strict=True))


def test_without_a_gradient_free_rows_get_none():
    model = nn.Sequential(nn.Linear(3, 4))
    rows = OutputRows(model, 4, "free")
    rows.begin([0, 2])
    with rows.spared("grad"):
        for p in model.parameters():
            p.grad = torch.ones_like(p)
    assert model[0].bias.grad.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("policy", ["frozen", "free"])
def test_nothing_is_old_where_all_tasks_are_trained_on_together(make_stream, policy):
    plain, kept = (
        make_stream(Cumulative, "split", Scenario("class", old_rows=rows), n_tasks=2) for rows in ("penalised", policy)
    )
    assert torch.equal(rows_at_boundaries(plain)[-1], rows_at_boundaries(kept)[-1])


def test_the_output_layer_is_the_last_of_its_size():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4))
    rows = OutputRows(model, 4, "frozen")
    rows.begin([1])
    before = [p.detach().clone() for p in model.parameters()]
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1.0)
    rows.restore()
    assert torch.equal(model[2].weight[1], before[2][1])
    assert torch.equal(model[2].weight[0], before[2][0] + 1)
    assert torch.equal(model[0].weight, before[0] + 1)


@pytest.mark.parametrize("policy", ["frozen", "free"])
def test_a_network_without_such_a_layer_is_refused(policy):
    with pytest.raises(InputError, match="ends in a linear layer with 7 outputs"):
        OutputRows(nn.Linear(3, 4), 7, policy)
    OutputRows(nn.Linear(3, 4), 7, "penalised")


@pytest.mark.parametrize("policy", ["frozen", "free"])
def test_shared_rows_have_no_old_ones(policy):
    with pytest.raises(InputError, match="scenario=domain: all tasks share all rows"):
        Scenario("domain", old_rows=policy)
