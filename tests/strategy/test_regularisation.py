"""What si, mas, rwalk and lwf have in common: no strength is fine-tuning, and a checkpoint loses nothing."""

import copy

import pytest
import torch

from cl_fisher.error import InputError
from cl_fisher.event import RunStarted, StepTaken
from cl_fisher.strategy.finetune import Finetune
from cl_fisher.strategy.lwf import LwF
from cl_fisher.strategy.mas import MAS
from cl_fisher.strategy.rwalk import RWalk
from cl_fisher.strategy.si import SI
from cl_fisher.training import checkpoint
from tests.strategy.lockstep import (
    OPTIMIZERS,
    assert_same_weights,
    batches,
    examples,
    heads_at,
    network,
    take_step,
    train,
)
from tests.training.conftest import make_stream as make_stream

ALL = [SI, MAS, RWalk, LwF]
PENALTIES = [SI, MAS, RWalk]
STARTED = RunStarted(2, 2, {}, {})
STRONG = {SI: 2e3, MAS: 20.0, RWalk: 2e3, LwF: 5.0}


def trained(strategy, optimizer, tasks=(1, 2), **how):
    for number in tasks:
        for _ in train(strategy, optimizer, number, **how):
            pass
    return strategy.model


def make(strategy, optimizer, strength, **options):
    made = strategy(network(dropout=True), strength=strength, **options)
    torch.manual_seed(5)  # of the dropout
    return made, OPTIMIZERS[optimizer](list(made.model.parameters()))


@pytest.mark.parametrize("strategy", ALL)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_no_strength_is_finetuning_bit_for_bit(strategy, optimizer):
    plain = trained(*make(Finetune, optimizer, 0))
    assert_same_weights(trained(*make(strategy, optimizer, 0)), plain, rtol=0, atol=0)
    with pytest.raises(AssertionError):
        assert_same_weights(trained(*make(strategy, optimizer, STRONG[strategy])), plain, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("strategy", ALL)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_one_task_is_plain_training(strategy, optimizer):
    plain = trained(*make(Finetune, optimizer, 0), tasks=(1,))
    assert_same_weights(trained(*make(strategy, optimizer, STRONG[strategy]), tasks=(1,)), plain, rtol=0, atol=0)


@pytest.mark.parametrize("strategy", ALL)
def test_the_state_after_a_task_is_all_there_is(strategy, tmp_path):
    whole, optimizer = make(strategy, "adam", STRONG[strategy])
    trained(whole, optimizer, tasks=(1,))
    torch.save([whole.model.state_dict(), optimizer.state_dict(), whole.state_dict()], tmp_path / "state.pt")
    again, other = make(strategy, "adam", STRONG[strategy])
    for thing, state in zip(
        (again.model, other, again), torch.load(tmp_path / "state.pt", weights_only=True), strict=True
    ):
        thing.load_state_dict(state)
    assert again.state_bytes == whole.state_bytes > 0
    for strategy_, optimizer_ in ((whole, optimizer), (again, other)):
        torch.manual_seed(6)
        trained(strategy_, optimizer_, tasks=(2, 1))
    assert_same_weights(again.model, whole.model, rtol=0, atol=0)


@pytest.mark.parametrize("strategy", ALL)
def test_the_state_within_a_task_is_all_there_is(strategy):
    """Also between two steps, where what was noted is not booked yet."""
    options = {"interval": 3} if strategy is RWalk else {}
    whole, optimizer = make(strategy, "sgd", STRONG[strategy], **options)
    again, other = make(strategy, "sgd", STRONG[strategy], **options)
    trained(whole, optimizer, tasks=(1,))
    heads, every = heads_at(2), list(batches(2))
    whole.begin_task(2, heads)
    for batch in every[:5]:
        take_step(whole, optimizer, [batch], heads)
    for thing, state in ((again.model, whole.model), (other, optimizer), (again, whole)):
        thing.load_state_dict(copy.deepcopy(state.state_dict()))
    for strategy_, optimizer_ in ((whole, optimizer), (again, other)):
        torch.manual_seed(6)
        for batch in every[5:]:
            take_step(strategy_, optimizer_, [batch], heads)
        strategy_.consolidate([examples(2)], heads[1])
        trained(strategy_, optimizer_, tasks=(1,))
    assert_same_weights(again.model, whole.model, rtol=0, atol=0)


@pytest.mark.parametrize("strategy", ALL)
@pytest.mark.parametrize("optimizer", [{}, {"sgd": {"lr": 0.05, "momentum": 0.9}}])
def test_a_stream_without_strength_is_finetuning_bit_for_bit(make_stream, strategy, optimizer):
    how = {"dropout": True, "trainer": {"accumulate_grad_batches": 2, "gradient_clip_val": 0.5}, **optimizer}
    idle = ended(make_stream(strategy, options={"strength": 0}, **how))
    assert_same_weights(idle.model, ended(make_stream(Finetune, **how)).model, rtol=0, atol=0)
    held = ended(make_stream(strategy, options={"strength": STRONG[strategy]}, **how))
    with pytest.raises(AssertionError):
        assert_same_weights(idle.model, held.model, rtol=1e-5, atol=1e-6)


def ended(stream):
    stream.run(STARTED)
    return stream


@pytest.mark.parametrize("strategy", ALL)
def test_a_stream_goes_on_from_its_checkpoint_bit_for_bit(make_stream, tmp_path, strategy):
    options = {"n_tasks": 3, "dropout": True, "options": {"strength": STRONG[strategy]}, "iterations": 4}
    whole = ended(make_stream(strategy, **options, checkpoint="all", directory=tmp_path))
    resumed = make_stream(strategy, **options)
    resumed.load_state_dict(checkpoint.load(tmp_path / "checkpoints" / "task_001.pt"))
    ended(resumed)
    assert_same_weights(resumed.model, whole.model, rtol=0, atol=0)
    assert resumed.ledger.rows == whole.ledger.rows
    assert resumed.strategy.state_bytes == whole.strategy.state_bytes


@pytest.mark.parametrize("strategy", ALL)
@pytest.mark.parametrize("scenario", ["task", "domain", "class"])
def test_every_scenario_and_consolidation_within_a_task(make_stream, strategy, scenario):
    options = {"benchmark": "split", "scenario": scenario, "iterations": 4, "consolidate_every": 3}
    summary = ended(make_stream(strategy, **options)).summary("finished")
    assert all(0 <= a <= 1 for a in summary["accuracy"][-1])
    assert summary["state_bytes"] > 0


@pytest.mark.parametrize("strategy", ALL)
@pytest.mark.parametrize("scenario", [{"scenario": "task"}, {"scenario": "class"}])
def test_weights_of_other_precisions(make_stream, strategy, scenario):
    for precision in ("64-true", "bf16-true", "bf16-mixed"):
        stream = make_stream(strategy, "split", **scenario, iterations=3, trainer={"precision": precision})
        assert ended(stream).summary("finished")["avg_accuracy"] >= 0


@pytest.mark.parametrize("strategy", PENALTIES)
@pytest.mark.parametrize("step", ["gradient", "proximal"])
def test_the_penalty_begins_with_the_second_task(make_stream, strategy, step):
    stream = ended(make_stream(strategy, options={"strength": STRONG[strategy], "step": step}))
    penalties = [event.penalty for event in stream.recorder.of(StepTaken)]
    assert penalties[:3] == [0, 0, 0]
    assert min(penalties[3:]) > 0


@pytest.mark.parametrize("strategy", ALL)
def test_a_strength_below_zero_is_refused(strategy):
    with pytest.raises(InputError, match="strength=-1"):
        strategy(network(), strength=-1)
