"""Running statistics of batch norm from task to task, under each policy."""

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import nn

from cl_fisher.cli import job
from cl_fisher.config import conf_dir, register_resolvers
from cl_fisher.event import Evaluated, RunStarted, TaskEnded
from cl_fisher.model.norm import batch_norms
from cl_fisher.strategy.cumulative import Cumulative
from cl_fisher.strategy.ewc import EWC
from cl_fisher.strategy.finetune import Finetune
from cl_fisher.training import checkpoint

STARTED = RunStarted(3, 3, {}, {})


def state(stream):
    (norm,) = batch_norms(stream.model)
    return {name: tensor.clone() for name, tensor in norm.state_dict().items()}


def states(stream):
    """Run it; the state of its batch norm after each task."""
    found, handle = [], stream.recorder.handle

    def note(event):
        handle(event)
        if isinstance(event, TaskEnded):
            found.append(state(stream))

    stream.recorder.handle = note
    stream.run(STARTED)
    return found


def same(a, b, *names):
    return all(torch.equal(a[name], b[name]) for name in names)


STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@pytest.mark.parametrize("strategy", [Finetune, EWC, Cumulative])
def test_as_is_they_follow_every_task_and_count_training_steps_alone(make_stream, strategy):
    """Six steps a task: evaluation and consolidation have added none."""
    one, two, three = states(make_stream(strategy, norm=True, n_tasks=3))
    assert [int(s["num_batches_tracked"]) for s in (one, two, three)] == [6, 12, 18]
    assert not any(same(two, s, name) for s in (one, three) for name in STATISTICS)


@pytest.mark.parametrize("strategy", [Finetune, EWC, Cumulative])
def test_frozen_they_stay_those_of_the_first_task_while_scale_and_shift_learn(make_stream, strategy):
    one, two, three = states(make_stream(strategy, norm=True, n_tasks=3, batchnorm="frozen"))
    as_is = states(make_stream(strategy, norm=True, n_tasks=3))
    assert same(one, as_is[0], *one)
    assert same(one, two, *STATISTICS)
    assert same(one, three, *STATISTICS)
    assert not same(one, two, "weight")
    assert not same(two, three, "bias")


@pytest.mark.parametrize("policy", ["as_is", "frozen"])
def test_what_normalises_in_training(make_stream, policy):
    """The batch, or in later tasks the running statistics; other layers are in training mode all the time."""
    stream, seen = make_stream(norm=True, dropout=True, batchnorm=policy), []
    (norm,) = batch_norms(stream.model)

    def compare(norm, inputs, output):
        if not stream.model.training:
            return
        (x,) = inputs
        by_batch = nn.functional.batch_norm(x, None, None, norm.weight, norm.bias, True, 0, norm.eps)
        seen.append(torch.equal(output, by_batch))
        assert all(m.training for m in stream.model.modules() if m is not norm)

    norm.register_forward_hook(compare)
    stream.run(STARTED)
    assert seen == [True] * 6 + [policy == "as_is"] * 6


@pytest.mark.parametrize("policy", ["as_is", "frozen"])
def test_evaluation_and_consolidation_leave_no_trace(make_stream, policy):
    stream, before = make_stream(norm=True, batchnorm=policy), []
    stream.module.on_train_end = lambda: before.append(state(stream))
    for now, then in zip(states(stream), before, strict=True):
        assert same(now, then, *now)
    assert stream.recorder.of(Evaluated)


@pytest.mark.parametrize("policy", ["as_is", "frozen"])
@pytest.mark.parametrize("done", [1, 2])
def test_they_survive_a_checkpoint(make_stream, tmp_path, policy, done):
    options = {"norm": True, "n_tasks": 3, "batchnorm": policy}
    whole = make_stream(**options, checkpoint="all", directory=tmp_path)
    whole.run(STARTED)
    resumed = make_stream(**options)
    resumed.load_state_dict(checkpoint.load(tmp_path / "checkpoints" / f"task_00{done}.pt"))
    resumed.run(STARTED)
    a, b = whole.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_going_back_to_the_first_task_frees_them(make_stream):
    stream = make_stream(norm=True, batchnorm="frozen")
    first = stream.state_dict()
    stream.run(STARTED)
    stream.load_state_dict(first)
    stream.train(stream.phases[0])
    (norm,) = batch_norms(stream.model)
    assert norm.training


@pytest.mark.parametrize(("policy", "n"), [("as_is", 21), ("frozen", 21), ("group_norm", 0)])
def test_the_key(policy, n):
    register_resolvers()
    options = ["model=resnet32", "model.depth=20", "model.width=2", "n_tasks=2", f"batchnorm={policy}", "logger=none"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        stream = job.assemble(compose("config", options))
    assert len(list(batch_norms(stream.model))) == n
    assert stream.settings.batchnorm == policy
