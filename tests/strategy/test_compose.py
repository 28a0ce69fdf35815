"""Several strategies at once: what passes through them, what they may not both decide, and how parts are chosen."""

from functools import partial

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import nn

from cl_fisher.cli.main import main
from cl_fisher.config import build, conf_dir, register_resolvers, validate
from cl_fisher.error import InputError
from cl_fisher.strategy.agem import AGEM
from cl_fisher.strategy.batch import Batch, masks, nll
from cl_fisher.strategy.compose import Compose
from cl_fisher.strategy.cumulative import Cumulative
from cl_fisher.strategy.derpp import DERpp
from cl_fisher.strategy.er import ER
from cl_fisher.strategy.ewc import EWC
from cl_fisher.strategy.gdumb import GDumb
from cl_fisher.strategy.icarl import ICaRL
from cl_fisher.strategy.joint import Joint
from cl_fisher.strategy.lwf import LwF
from cl_fisher.strategy.rwalk import RWalk
from cl_fisher.strategy.si import SI

HEADS = [range(3)] * 2
PROXIMAL = partial(EWC, step="proximal")


def network():
    torch.manual_seed(0)
    return nn.Linear(4, 3).double()


def batch(task, n=8):
    draw = torch.Generator().manual_seed(task)
    inputs = torch.randn(n, 4, generator=draw, dtype=torch.float64)
    return Batch(inputs, torch.arange(n) % 3, torch.arange(n), torch.full((n,), task))


def second_task(strategy):
    strategy.begin_task(1, HEADS[:1])
    strategy.consolidate([batch(1)[:3]])
    strategy.begin_task(2, HEADS)
    with torch.no_grad():
        strategy.model.weight.add_(torch.linspace(0.1, 0.3, 12).view(3, 4))
    return strategy


@pytest.mark.parametrize("order", [("replay", "penalty"), ("penalty", "replay")])
def test_replay_with_a_penalty_is_each_of_them(order):
    make = {"replay": partial(ER, weighting="tasks"), "penalty": partial(EWC, strength=3.0)}
    both = second_task(Compose(network(), {name: make[name] for name in order}))
    er, ewc = second_task(make["replay"](network())), second_task(make["penalty"](network()))
    mixed = both.mix(batch(2))
    assert all(torch.equal(a, b) for a, b in zip(mixed, er.mix(batch(2)), strict=True))
    logits = both.model(mixed.inputs)
    plain = torch.tensor(2.0, dtype=torch.float64)
    assert torch.equal(both.loss(mixed, logits, plain), er.loss(mixed, logits, plain))
    for strategy in (both, ewc):
        for p in strategy.model.parameters():
            p.grad = torch.ones_like(p)
        strategy.add_gradient()
    assert torch.equal(both.model.weight.grad, ewc.model.weight.grad)
    assert both.penalty() == ewc.penalty() > 0
    assert both.state_bytes == er.state_bytes + ewc.state_bytes


@pytest.mark.parametrize("order", [("replay", "distillation"), ("distillation", "replay")])
@pytest.mark.parametrize("weighting", ["sum", "mean", "share"])
def test_the_loss_of_replay_and_distillation_in_either_order(order, weighting):
    """Task 2: half of the current mean and half of the replayed one, and then what distillation makes of that."""
    replay = partial(ER, weighting="tasks", replay_batch_size=3)
    make = {"replay": replay, "distillation": partial(LwF, weighting=weighting, strength=0.7)}
    both = second_task(Compose(network(), {name: make[name] for name in order}))
    lwf = second_task(make["distillation"](network()))
    mixed = both.mix(batch(2))
    logits = both.model(mixed.inputs)
    each = nll(logits, mixed.targets, mixed.task, masks(HEADS, 3))
    halves = (each[:8].mean() + each[8:].mean()) / 2
    found = both.loss(mixed, logits, each.mean())
    assert found.item() == pytest.approx(lwf.loss(mixed, logits, halves).item(), rel=1e-12)


@pytest.mark.parametrize("order", [("exemplars", "distillation"), ("distillation", "exemplars")])
def test_a_loss_that_is_replaced_loses_no_other_part(order):
    make = {"exemplars": ICaRL, "distillation": partial(LwF, strength=5.0)}
    both = second_task(Compose(network(), {name: make[name] for name in order}))
    own, lwf = (second_task(make[name](network())) for name in ("exemplars", "distillation"))
    logits, plain = both.model(batch(2).inputs), torch.tensor(2.0, dtype=torch.float64)
    found = both.loss(batch(2), logits, plain)
    assert torch.equal(found, lwf.loss(batch(2), logits, own.loss(batch(2), logits, plain)))
    assert (found - own.loss(batch(2), logits, plain)).item() == pytest.approx(
        lwf.loss(batch(2), logits, plain).item() - 2.0, rel=1e-6
    )


@pytest.mark.parametrize("hook", ["consolidate", "check"])
def test_batches_that_can_be_read_once_are_refused_where_two_read_them(hook):
    both = Compose(network(), {"a": EWC, "b": ICaRL, "c": DERpp})
    both.begin_task(1, HEADS[:1])
    with pytest.raises(InputError, match="a and b are each given the batches, but `batches` is an iterator"):
        getattr(both, hook)(iter([batch(1)]))
    assert both.penalty() == 0
    assert both.parts["a"].quadratic.n_tasks == 0
    one = Compose(network(), {"a": EWC, "c": DERpp})
    getattr(one, hook)(iter([batch(1)[:2]]))


def test_the_state_is_that_of_all_parts():
    parts = {"replay": ER, "penalty": EWC}
    first, second = second_task(Compose(network(), parts)), Compose(network(), parts)
    second.load_state_dict(first.state_dict())
    second.begin_task(2, HEADS)
    second.model.load_state_dict(first.model.state_dict())
    assert second.penalty() == first.penalty() > 0
    assert torch.equal(second.mix(batch(2)).inputs, first.mix(batch(2)).inputs)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({}, "strategy.parts is empty"),
        ({"a": Joint, "b": Cumulative}, "a and b do not go together, both decide over trains_on"),
        ({"a": ICaRL, "b": ER, "c": ICaRL}, "a and c do not go together, both decide over serving"),
        ({"a": GDumb, "b": GDumb}, "a and b do not go together, both decide over starts_anew"),
        ({"a": SI, "b": EWC, "c": RWalk}, "a and c do not go together, both must see the gradient first"),
        (
            {"a": partial(Compose, parts={"b": SI}), "c": RWalk},
            "a and c do not go together, both must see the gradient",
        ),
        ({"a": ICaRL, "b": partial(ER, weighting="tasks")}, "a and b do not go together, both must see the loss first"),
        ({"a": PROXIMAL, "b": AGEM, "c": partial(SI, step="proximal")}, "a and c do not go together, both have step="),
    ],
)
def test_what_does_not_go_together(parts, message):
    with pytest.raises(InputError, match=message):
        Compose(network(), parts)


def made(*overrides):
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("config", overrides=["strategy=compose", *overrides])
    validate(cfg)
    return build(cfg.strategy, model=network())


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        ([], {"penalty": "EWC", "replay": "ER"}),
        (["strategy@strategy.parts.penalty=online_ewc"], {"penalty": "OnlineEWC", "replay": "ER"}),
        (["+strategy@strategy.parts.third=agem"], {"penalty": "EWC", "replay": "ER", "third": "AGEM"}),
        (["~strategy@strategy.parts.replay"], {"penalty": "EWC"}),
    ],
)
def test_parts_are_chosen_from_the_command_line(overrides, parts):
    strategy = made(*overrides, "strategy.strength=7")
    assert {name: type(part).__name__ for name, part in strategy.parts.items()} == parts
    assert strategy.parts["penalty"].strength == 7


def test_options_of_parts():
    strategy = made("strategy.parts.replay.capacity=9", "seed=4")
    assert strategy.parts["replay"].buffer.capacity == 9


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["strategy@strategy.parts.penalty=ewcc"], "there is no strategy 'ewcc'; did you mean 'ewc'"),
        (["strategy.parts.replay.capacity=0"], "strategy.parts.replay.capacity=0 is out of range"),
        (["strategy.parts.replay.memory=ring"], "strategy.parts.replay.memory=ring is not one of"),
        (["strategy.parts.replay.capacitty=5"], "did you mean 'strategy.parts.replay.capacity'"),
        (["strategy@strategy.parts.replay=icarl"], "scenario=domain is not possible with ICaRL"),
        (["strategy.parts.replay.replay=all"], "replay=all needs memory=reservoir"),
        (["~strategy"], "a run needs strategy"),
    ],
)
def test_a_mistake_in_a_part_is_one_line(overrides, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["run", "strategy=compose", "logger=none", *overrides, f"output_dir={tmp_path}/x"]) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert len(shown.strip().splitlines()) == 1
