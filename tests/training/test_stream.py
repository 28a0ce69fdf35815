"""The task loop: what it computes, in which order, and that it can stop and go on."""

import copy

import pytest
import torch

from cl_fisher.error import RunError
from cl_fisher.event import Consolidated, Evaluated, RunEnded, RunStarted, StepTaken, TaskEnded, TaskStarted
from cl_fisher.strategy.cumulative import Cumulative
from cl_fisher.strategy.ewc import EWC
from cl_fisher.strategy.finetune import Finetune
from cl_fisher.strategy.joint import Joint
from cl_fisher.strategy.online_ewc import OnlineEWC
from cl_fisher.strategy.strategy import Strategy
from cl_fisher.training import checkpoint
from cl_fisher.training.batches import LoaderSettings

STARTED = RunStarted(2, 2, {}, {})
ALL = [Finetune, Joint, Cumulative, EWC, OnlineEWC]


def weights(stream):
    return [p.detach().clone() for p in stream.model.parameters()]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_events_come_in_order(make_stream):
    stream = make_stream()
    summary = stream.run(STARTED)
    kinds = [type(e) for e in stream.recorder.events]
    task = [TaskStarted, StepTaken, StepTaken, StepTaken, Consolidated, Evaluated, Evaluated, TaskEnded]
    assert kinds == [RunStarted, Evaluated, Evaluated, *task, *task, RunEnded]
    assert [e.global_step for e in stream.recorder.of(StepTaken)] == [2, 4, 6, 8, 10, 12]
    assert [e.step for e in stream.recorder.of(StepTaken)] == [2, 4, 6, 2, 4, 6]
    assert [e.after_task for e in stream.recorder.of(Evaluated)] == [0, 0, 1, 1, 2, 2]
    assert summary["final"]
    assert summary["global_step"] == 12
    assert stream.recorder.events[-1].summary == summary


def test_the_total_of_seconds_is_up_to_date_after_every_task(make_stream):
    """Also in the checkpoint, so that a resumed run adds to it."""
    stream = ended(make_stream())
    totals = [e.summary["seconds"] for e in stream.recorder.of(TaskEnded)] + [stream.summary("finished")["seconds"]]
    for seconds in totals:
        assert seconds["total"] >= seconds["train"] + seconds["fisher"] + seconds["eval"] - 0.002 > 0
    assert totals[0]["total"] < totals[1]["total"]


def test_penalty_is_zero_in_task_one_and_not_after(make_stream):
    stream = make_stream()
    stream.run(STARTED)
    penalties = [e.penalty for e in stream.recorder.of(StepTaken)]
    assert penalties[:3] == [0, 0, 0]
    assert all(p > 0 for p in penalties[3:])


@pytest.mark.parametrize("strategy", [EWC, OnlineEWC])
@pytest.mark.parametrize("optimizer_state", ["reset", "keep"])
def test_no_strength_is_finetuning_bit_for_bit(make_stream, strategy, optimizer_state):
    common = {"dropout": True, "optimizer_state": optimizer_state}
    idle = weights(ended(make_stream(strategy, options={"strength": 0}, **common)))
    assert same(idle, weights(ended(make_stream(Finetune, **common))))
    assert not same(idle, weights(ended(make_stream(strategy, **common))))


def ended(stream):
    stream.run(STARTED)
    return stream


@pytest.mark.parametrize("strategy", ALL)
def test_same_seed_same_result(make_stream, strategy):
    first, second, other = (ended(make_stream(strategy, seed=s)) for s in (3, 3, 4))
    assert same(weights(first), weights(second))
    assert first.ledger.rows == second.ledger.rows
    assert not same(weights(first), weights(other))


@pytest.mark.parametrize("scenario", ["task", "domain", "class"])
@pytest.mark.parametrize("benchmark", ["permuted", "split"])
@pytest.mark.parametrize("strategy", ALL)
def test_every_strategy_on_every_scenario(make_stream, strategy, benchmark, scenario):
    stream = make_stream(strategy, benchmark, scenario, iterations=2)
    summary = stream.run(STARTED)
    rows = 1 if strategy is Joint else 2
    assert len(summary["accuracy"]) == rows
    assert all(len(row) == 2 for row in summary["accuracy"])
    assert all(0 <= a <= 1 for a in summary["accuracy"][-1])
    assert (summary["accuracy"][0][1] is None) == (scenario == "class" and strategy is not Joint)
    assert (summary["forgetting"] is None) == (strategy is Joint)


def test_joint_gets_the_steps_of_all_tasks_at_once(make_stream):
    stream = ended(make_stream(Joint, n_tasks=3))
    assert stream.recorder.of(TaskStarted)[0].steps == stream.global_step == 18
    assert stream.recorder.of(TaskStarted)[0].n_examples == sum(len(t.train) for t in stream.sequence.tasks)
    assert [e.after_task for e in stream.recorder.of(Evaluated)] == [0, 0, 3, 3]


def test_cumulative_trains_on_all_tasks_so_far(make_stream):
    stream = ended(make_stream(Cumulative, n_tasks=3))
    n = len(stream.sequence.tasks[0].train)
    assert [e.n_examples for e in stream.recorder.of(TaskStarted)] == [n, 2 * n, 3 * n]


@pytest.mark.parametrize(("epochs", "batch_size", "steps"), [(1, 128, 11), (2, 1000, 4), (1, 1293, 2), (3, 5000, 3)])
def test_epochs_count_every_batch_the_ragged_one_too(make_stream, epochs, batch_size, steps):
    stream = make_stream(Finetune, iterations=None, epochs=epochs, batch_size=batch_size)
    assert len(stream.sequence.tasks[0].train) == 1294
    stream.run(STARTED)
    assert [e.steps for e in stream.recorder.of(TaskStarted)] == [steps, steps]
    assert stream.global_step == 2 * steps
    last = [e for e in stream.recorder.of(StepTaken) if e.task == 2][-1]
    assert (last.step, last.epoch) == (steps, epochs)


def test_iterations_win_over_epochs_and_span_them(make_stream):
    stream = ended(make_stream(Finetune, iterations=25, epochs=1))
    assert stream.global_step == 50
    assert stream.recorder.of(TaskStarted)[0].epochs == 3


def test_accumulated_steps(make_stream):
    stream = ended(make_stream(Finetune, iterations=None, epochs=1, trainer={"accumulate_grad_batches": 4}))
    assert [e.steps for e in stream.recorder.of(TaskStarted)] == [3, 3]
    assert stream.global_step == 6


def test_reset_and_kept_optimizers_differ(make_stream):
    reset, keep = (ended(make_stream(Finetune, optimizer_state=choice)) for choice in ("reset", "keep"))
    assert reset.ledger.rows["test"][0] == keep.ledger.rows["test"][0]
    assert not same(weights(reset), weights(keep))


@pytest.mark.parametrize("strategy", ALL)
def test_batches_from_memory_and_from_workers_give_the_same_network(make_stream, strategy):
    memory, single, workers = (
        ended(make_stream(strategy, dropout=True, loader=LoaderSettings(in_memory=m, workers=w)))
        for m, w in ((True, 0), (False, 0), (False, 2))
    )
    assert same(weights(memory), weights(single))
    assert same(weights(memory), weights(workers))


@pytest.mark.parametrize("optimizer_state", ["reset", "keep"])
@pytest.mark.parametrize("strategy", [Finetune, Cumulative, EWC, OnlineEWC])
def test_a_stream_goes_on_from_its_checkpoint_bit_for_bit(make_stream, tmp_path, strategy, optimizer_state):
    options = {"n_tasks": 3, "dropout": True, "optimizer_state": optimizer_state}
    whole = ended(make_stream(strategy, **options, checkpoint="all", directory=tmp_path))
    resumed = make_stream(strategy, **options)
    torch.rand(7)
    resumed.load_state_dict(checkpoint.load(tmp_path / "checkpoints" / "task_001.pt"))
    assert resumed.done == 1
    resumed.run(STARTED)
    assert same(weights(whole), weights(resumed))
    aside = {"seconds", "peak_memory_bytes", "started"}
    a, b = whole.summary("finished"), resumed.summary("finished")
    assert {k: v for k, v in a.items() if k not in aside} == {k: v for k, v in b.items() if k not in aside}
    assert [e.task for e in resumed.recorder.of(TaskStarted)] == [2, 3]
    assert resumed.recorder.restored == {"n": 3 + 7 + len(whole.recorder.of(Consolidated)[:1])}


@pytest.mark.parametrize("precision", ["64-true", "bf16-true"])
@pytest.mark.parametrize("sgd", [None, {"lr": 0.1, "momentum": 0.9}])
def test_so_does_one_whose_weights_are_of_another_precision(make_stream, tmp_path, precision, sgd):
    options = {"sgd": sgd, "norm": True, "trainer": {"precision": precision}, "options": {"strength": 1.0}}
    whole = ended(make_stream(**options, checkpoint="all", directory=tmp_path))
    resumed = make_stream(**options)
    resumed.load_state_dict(checkpoint.load(tmp_path / "checkpoints" / "task_001.pt"))
    assert same(weights(whole), weights(ended(resumed)))


@pytest.mark.parametrize(
    ("keep", "left"), [("last", ["task_002.pt"]), ("all", ["task_001.pt", "task_002.pt"]), ("none", [])]
)
def test_which_checkpoints_stay(make_stream, tmp_path, keep, left):
    ended(make_stream(checkpoint=keep, directory=tmp_path))
    assert sorted(p.name for p in tmp_path.glob("checkpoints/*")) == left


def test_training_mode_survives_evaluation_and_consolidation(make_stream):
    stream = make_stream()
    modes = []
    stream.module.on_train_batch_start = lambda *_: modes.append(stream.model.training)
    stream.run(STARTED)
    assert modes == [True] * 12


def test_non_finite_loss_names_task_step_and_the_three_numbers(make_stream):
    stream = make_stream(sgd={"lr": 1.0}, options={"strength": 1e9}, iterations=20, log_every=7)
    with pytest.raises(RunError, match=r"task 2, step \d+: the loss is nan") as caught:
        stream.run(STARTED)
    message = str(caught.value)
    assert "lr * strength * max(sum of F) = 1 * 1e+09 * " in message
    assert "must be below 2" in message
    end = stream.recorder.events[-1]
    assert end.status == "failed"
    assert end.error == message
    assert end.summary["accuracy"] == stream.ledger.rows["test"] != []
    assert not end.summary["final"]


def test_non_finite_loss_without_penalty_blames_the_learning_rate(make_stream):
    with pytest.raises(RunError, match=r"task 1, step .*the learning rate 1e.10 is too high"):
        make_stream(Finetune, sgd={"lr": 1e10}, iterations=20).run(STARTED)


def test_weights_that_the_last_step_broke_are_seen(make_stream):
    with pytest.raises(RunError, match=r"task 1, step 1: weight 1\.weight is not finite"):
        make_stream(Finetune, sgd={"lr": float("inf")}, iterations=1).run(STARTED)


class Forgetful(EWC):
    """The best-known bug: the gradient goes nowhere and the anchor follows the weights."""

    def penalty(self):
        return 0.0


def test_a_penalty_that_stays_zero_in_task_two_fails_loudly(make_stream):
    with pytest.raises(RunError, match="0 at every step of task 2"):
        make_stream(Forgetful, n_tasks=3).run(STARTED)
    make_stream(Forgetful, options={"strength": 0}).run(STARTED)


class Clipped(Strategy):
    """A penalty whose gradient is known: huge, towards one direction."""

    calls = 0

    def add_gradient(self):
        self.calls += 1
        for p in self.model.parameters():
            p.grad.add_(1e6)


def test_penalty_enters_before_clipping_and_once_under_accumulation(make_stream):
    """The clipped vector is the gradient of the whole objective, so the norm that steps see is the clip value."""
    norms = []

    class Sgd(torch.optim.SGD):
        def step(self, closure=None):
            with torch.enable_grad():
                closure()
            norms.append(torch.cat([p.grad.flatten() for g in self.param_groups for p in g["params"]]).norm().item())

    clipped = {"gradient_clip_val": 0.5, "accumulate_grad_batches": 3}
    stream = make_stream(lambda model: Clipped(model, 1.0), trainer=clipped, iterations=4)
    stream._make_optimizer = lambda parameters: Sgd(parameters, lr=0.0)
    stream.run(STARTED)
    assert norms == pytest.approx([0.5] * 8, rel=1e-4)
    assert stream.strategy.calls == 8


@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "bf16-mixed"])
def test_other_precisions(make_stream, precision):
    stream = ended(make_stream(trainer={"precision": precision}))
    assert all(e.penalty > 0 for e in stream.recorder.of(StepTaken)[3:])
    assert stream.summary("finished")["avg_accuracy"] > 0


def test_float16_is_named_as_the_cause(make_stream):
    with pytest.raises(RunError, match="weights of 16 bits"):
        make_stream(trainer={"precision": "16-true"}, lr=10.0, iterations=30).run(STARTED)


@pytest.mark.parametrize("cut", [{"max_time": {"seconds": 0}}, {"limit_train_batches": 2}])
def test_a_training_that_was_cut_short_is_no_result(make_stream, cut):
    with pytest.raises(RunError, match=r"task 1: \d+ of 11 steps taken"):
        make_stream(trainer=cut, iterations=None, epochs=1).run(STARTED)


def test_weights_that_do_not_move_are_named_as_a_cause(make_stream):
    with pytest.raises(RunError, match="did not move"):
        make_stream(lr=0.0).run(STARTED)


def test_consolidation_sees_only_its_task_and_as_many_examples_as_asked(make_stream):
    stream = make_stream(fisher_samples=100)
    seen = []
    plain = stream.strategy.consolidate
    stream.strategy.consolidate = lambda batches, classes: plain(seen.append(list(batches)) or seen[-1], classes)
    stream.run(STARTED)
    first, second = (torch.cat([index for _, _, index, *_ in batches]) for batches in seen)
    assert len(first) == len(second) == 100 == len(first.unique())
    assert not torch.equal(first, second)
    assert [e.values["samples"] for e in stream.recorder.of(Consolidated)] == [100, 100]


def test_interruption_is_told_and_raised(make_stream):
    stream = make_stream()

    def stop(*_):
        raise KeyboardInterrupt

    stream.module.on_before_optimizer_step = stop
    with pytest.raises(KeyboardInterrupt):
        stream.run(STARTED)
    assert stream.recorder.events[-1].status == "interrupted"


def test_state_is_plain_enough_for_weights_only(make_stream, tmp_path):
    stream = ended(make_stream())
    torch.save(stream.state_dict(), tmp_path / "s.pt")
    state = torch.load(tmp_path / "s.pt", weights_only=True)
    assert copy.deepcopy(state)["done"] == 2
