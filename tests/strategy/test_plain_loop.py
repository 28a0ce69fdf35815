"""Every strategy that keeps something, in a loop of one's own: its state is all there is; it must be told of tasks."""

import copy
from functools import partial

import pytest
import torch

from cl_fisher.error import RunError
from cl_fisher.strategy.agem import AGEM
from cl_fisher.strategy.compose import Compose
from cl_fisher.strategy.derpp import DERpp
from cl_fisher.strategy.er import ER
from cl_fisher.strategy.ewc import EWC
from cl_fisher.strategy.gdumb import GDumb
from cl_fisher.strategy.icarl import ICaRL
from cl_fisher.strategy.independent import Independent
from cl_fisher.strategy.lwf import LwF
from cl_fisher.strategy.mas import MAS
from cl_fisher.strategy.ncl import NCL
from cl_fisher.strategy.online_ewc import OnlineEWC
from cl_fisher.strategy.packnet import PackNet
from cl_fisher.strategy.rwalk import RWalk
from cl_fisher.strategy.si import SI
from tests.strategy.lockstep import OPTIMIZERS, assert_same_weights, batches, examples, heads_at, network, take_step

TOLD = {
    "er": ER,
    "er-reservoir": partial(ER, memory="reservoir", capacity=15),
    "er-tasks": partial(ER, weighting="tasks"),
    "agem": AGEM,
    "agem-reservoir": partial(AGEM, memory="reservoir", replay="all", capacity=15),
    "derpp": partial(DERpp, capacity=15, replay="all"),
    "icarl": ICaRL,
    "lwf": LwF,
    "independent": Independent,
    "packnet": PackNet,
    "packnet-pruned-before": partial(PackNet, prune_after=3),
    "packnet-pruned-after": partial(PackNet, prune_after=7),
    "er-ewc": partial(Compose, parts={"replay": ER, "penalty": EWC}),
}
KINDS = TOLD | {
    "ewc": EWC,
    "ewc-dense": partial(EWC, structure="dense"),
    "ewc-proximal": partial(EWC, step="proximal"),
    "online_ewc": OnlineEWC,
    "ncl": partial(NCL, prior=OnlineEWC),
    "mas": MAS,
    "si": SI,
    "rwalk": partial(RWalk, interval=4),
    "gdumb": GDumb,
}
ALL = pytest.mark.parametrize("kind", KINDS)


def new(kind):
    strategy = KINDS[kind](network())
    return strategy, OPTIMIZERS["sgd"](list(strategy.model.parameters()))


def steps(strategy, optimizer, number, which):
    for batch in list(batches(number))[which]:
        take_step(strategy, optimizer, [batch], heads_at(number))


def begin(strategy, optimizer, number, which=slice(None)):
    strategy.begin_task(number, heads_at(number))
    steps(strategy, optimizer, number, which)


def end(strategy, number):
    strategy.consolidate([examples(number)], heads_at(number)[-1])


@torch.no_grad()
def scores(strategy, number):
    with strategy.serving(number) as predict:
        return predict(examples(number)[0]).clone()


def assert_alike(strategy, other):
    assert_same_weights(other.model, strategy.model, rtol=0, atol=0)
    for number in (1, 2):
        assert torch.equal(scores(other, number), scores(strategy, number))
    assert other.state_bytes == strategy.state_bytes


@ALL
def test_the_state_within_a_task_is_all_there_is(kind, tmp_path):
    whole = new(kind)
    begin(*whole, 1)
    end(whole[0], 1)
    begin(*whole, 2, slice(5))
    torch.save([s.state_dict() for s in (whole[0].model, whole[1], whole[0])], tmp_path / "state.pt")
    again = new(kind)
    model, optimizer, state = torch.load(tmp_path / "state.pt", weights_only=True)
    again[0].load_state_dict(state)
    again[0].model.load_state_dict(model)
    again[1].load_state_dict(optimizer)
    for run in (whole, again):
        steps(*run, 2, slice(5, None))
        end(run[0], 2)
    assert_alike(whole[0], again[0])


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return all(map(same, a, b)) and len(a) == len(b) if isinstance(a, (list, tuple)) else a == b


@ALL
def test_a_state_is_not_what_the_strategy_goes_on_to_change(kind):
    """So one can go back to it, and more than once."""
    strategy, optimizer = new(kind)
    begin(strategy, optimizer, 1)
    end(strategy, 1)
    state = strategy.state_dict()
    before = copy.deepcopy(state)
    for _ in range(2):
        begin(strategy, optimizer, 2)
        end(strategy, 2)
        strategy.begin_task(2, heads_at(2))
        assert same(state, before)
        strategy.load_state_dict(state)
        assert same(strategy.state_dict(), before)


@pytest.mark.parametrize("kind", TOLD)
def test_a_loop_that_does_not_tell_of_its_tasks_is_told(kind):
    strategy, optimizer = new(kind)

    def loop():
        for number in (1, 2):
            steps(strategy, optimizer, number, slice(None))
            end(strategy, number)

    with pytest.raises(RunError, match=r"does not know which task this is .* call begin_task\(number, heads\)"):
        loop()


def test_what_makes_training_data_too():
    with pytest.raises(RunError, match="GDumb does not know which task this is"):
        GDumb(network()).training_data({})
