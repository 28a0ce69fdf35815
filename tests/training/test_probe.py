"""Continual evaluation: when it happens, what it sees, and that training does not notice."""

import random

import numpy as np
import pytest
import torch

from cl_fisher.event import Evaluated, Probed, RunStarted, TaskEnded
from cl_fisher.strategy.cumulative import Cumulative
from cl_fisher.strategy.ewc import EWC
from cl_fisher.strategy.finetune import Finetune
from cl_fisher.strategy.joint import Joint
from cl_fisher.training import checkpoint

STARTED = RunStarted(2, 2, {}, {})


def ended(stream):
    stream.run(STARTED)
    return stream


def weights(stream):
    return [p.detach().clone() for p in stream.model.parameters()]


class Noisy(Finetune):
    """Draws from every global stream whenever it predicts."""

    def serving(self, task):
        torch.rand(3), random.random(), np.random.rand()  # noqa: NPY002
        return super().serving(task)


def with_norm(stream):
    """A buffer that evaluation could spoil, and a mode that it could leave behind."""
    stream.model.insert(1, torch.nn.BatchNorm1d(64))
    stream._optimizer = None
    return stream


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("strategy", [Finetune, EWC, Cumulative, Joint, Noisy])
def test_training_does_not_notice(make_stream, strategy, accumulate):
    options = {"dropout": True, "trainer": {"accumulate_grad_batches": accumulate}}
    plain = ended(with_norm(make_stream(strategy, **options)))
    drawn = torch.rand(1).item(), random.random(), np.random.rand()  # noqa: NPY002
    watched = ended(with_norm(make_stream(strategy, **options, eval_every=1)))
    assert drawn == (torch.rand(1).item(), random.random(), np.random.rand())  # noqa: NPY002
    assert all(torch.equal(a, b) for a, b in zip(weights(plain), weights(watched), strict=True))
    for name, buffer in plain.model.named_buffers():
        assert torch.equal(buffer, dict(watched.model.named_buffers())[name])
    grads = zip(plain.model.parameters(), watched.model.parameters(), strict=True)
    assert all(torch.equal(a.grad, b.grad) if a.grad is not None else b.grad is None for a, b in grads)
    assert plain.ledger.rows == watched.ledger.rows
    assert watched.model.training == plain.model.training
    assert len(watched.recorder.of(Probed)) == (1 + 12 if strategy is Joint else 2 * (1 + 6))


@pytest.mark.parametrize(
    ("every", "steps"), [(1, [0, 1, 2, 3, 4, 5, 6]), (2, [0, 2, 4, 6]), (4, [0, 4, 6]), (50, [0, 6])]
)
def test_before_the_first_step_when_due_and_after_the_last(make_stream, every, steps):
    found = ended(make_stream(eval_every=every)).recorder.of(Probed)
    assert [(e.task, e.step, e.global_step) for e in found] == [(t, s, 6 * t - 6 + s) for t in (1, 2) for s in steps]
    assert [len(e.accuracy) for e in found] == [len(e.counts) for e in found] == [e.task for e in found]


class Turned(Finetune):
    """Predicts something else once a task is consolidated."""

    def consolidate(self, *_):
        with torch.no_grad():
            self.model[-1].weight.neg_()


@pytest.mark.parametrize("strategy", [Finetune, Turned])
@pytest.mark.parametrize("scenario", ["task", "domain", "class"])
def test_it_sees_what_evaluation_at_task_ends_sees(make_stream, scenario, strategy):
    stream = ended(make_stream(strategy, "split", scenario, n_tasks=5, eval_every=3))
    ends = {e.after_task: e.accuracy for e in stream.recorder.of(Evaluated) if e.split == "test"}
    for event in stream.recorder.of(Probed):
        if event.step == 6:
            assert event.accuracy == ends[event.task][: event.task]


def test_few_examples_are_the_same_ones_each_time(make_stream, monkeypatch):
    seen = []
    from cl_fisher.training import stream as module

    plain = module.accuracies

    def spy(model, strategy, sequence, split, n):
        if len(sequence.tasks[0].test) == 50:
            seen.append([task.test.rows for task in sequence.tasks])
        return plain(model, strategy, sequence, split, n)

    monkeypatch.setattr(module, "accuracies", spy)
    stream = ended(make_stream(eval_every=2, eval_samples=50))
    assert {e.counts for e in stream.recorder.of(Probed)} == {(50,), (50, 50)}
    assert len(seen) == 8
    assert all(torch.equal(rows[0], seen[0][0]) for rows in seen)
    assert len(seen[0][0].unique()) == 50


def test_it_goes_on_from_a_checkpoint(make_stream, tmp_path):
    options = {"n_tasks": 3, "dropout": True, "eval_every": 2}
    whole = ended(make_stream(**options, checkpoint="all", directory=tmp_path))
    resumed = make_stream(**options)
    resumed.load_state_dict(checkpoint.load(tmp_path / "checkpoints" / "task_001.pt"))
    resumed.run(STARTED)
    assert resumed.ledger.during() == whole.ledger.during()
    assert resumed.ledger.extra_passes == whole.ledger.extra_passes > 0
    assert resumed.recorder.of(Probed) == whole.recorder.of(Probed)[4:]


def test_metrics_are_in_the_summary_and_null_without_it(make_stream):
    summary = ended(make_stream(eval_every=1)).summary("finished")
    keys = ("min_acc", "wc_acc", "wf10", "wp10", "stability_gap", "stability_recovery")
    assert all(isinstance(summary[key], float) for key in keys)
    assert len(summary["stability_gaps"]) == 1
    assert all(ended(make_stream()).summary("finished")[key] is None for key in keys)
    assert all(ended(make_stream(Joint, eval_every=2)).summary("finished")[key] is None for key in keys)


def test_seconds_of_evaluation_are_not_counted_as_training(make_stream):
    stream = make_stream(eval_every=1)
    plain, clock = stream._probe, [0.0]
    import time

    def slow(*arguments):
        with stream.ledger.clock("eval"):
            time.sleep(0.05)
        clock[0] += 0.05
        plain(*arguments)

    stream._probe = slow
    seconds = ended(stream).ledger.seconds
    assert seconds["eval"] >= clock[0] == pytest.approx(0.7)
    assert seconds["train"] + seconds["fisher"] + seconds["eval"] <= seconds["total"]


def costs(stream):
    return [event.costs for event in ended(stream).recorder.of(TaskEnded)]


def test_costs_of_each_task(make_stream):
    stream = make_stream(n_tasks=3)
    found = costs(stream)
    for key in ("train", "fisher", "eval"):
        total = sum(cost[f"seconds_{key}"] for cost in found)
        assert 0 < total <= stream.ledger.seconds[key]
    assert [cost["extra_passes"] for cost in found] == [1.0] * 3  # the Fisher reads each example once
    assert found[-1]["state_bytes"] == stream.strategy.state_bytes > 0
    assert found[0]["peak_memory_bytes"] <= found[-1]["peak_memory_bytes"]
    assert stream.summary("finished")["extra_passes"] == 3.0


@pytest.mark.parametrize(("strategy", "expected"), [(Finetune, [0, 0, 0]), (Cumulative, [0, 2, 4]), (Joint, [0])])
def test_extra_passes_are_those_over_earlier_tasks(make_stream, strategy, expected):
    assert [c["extra_passes"] for c in costs(make_stream(strategy, n_tasks=3, iterations=None, epochs=2))] == expected


def test_fisher_samples_are_a_part_of_a_pass(make_stream):
    n = len(make_stream().sequence.tasks[0].train)
    assert [c["extra_passes"] for c in costs(make_stream(fisher_samples=100))] == pytest.approx([100 / n] * 2)


class Repeats(Finetune):
    """Adds three examples to each batch, which are of the task itself, or claim to be of another."""

    def mix(self, batch):
        few = [column[:3] for column in batch]
        few[2] = torch.full_like(few[2], -1)
        return type(batch)(*(torch.cat(pair) for pair in zip(batch, few, strict=True)))


def test_replayed_examples_count(make_stream):
    n = len(make_stream().sequence.tasks[0].train)
    assert [c["extra_passes"] for c in costs(make_stream(Repeats))] == pytest.approx([6 * 3 / n] * 2)
