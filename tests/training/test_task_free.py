"""Consolidation every n optimizer steps: of exactly what was seen since, and of nothing else."""

import pytest
import torch

from cl_fisher.benchmark.task import Scenario
from cl_fisher.error import InputError
from cl_fisher.event import Consolidated, RunStarted
from cl_fisher.fisher import estimate_fisher
from cl_fisher.strategy.ewc import EWC
from cl_fisher.strategy.finetune import Finetune
from cl_fisher.strategy.online_ewc import OnlineEWC
from cl_fisher.training import checkpoint
from cl_fisher.training.batches import PhaseData

STARTED = RunStarted(2, 2, {}, {})


def followed(stream):
    """A record of the run: (task, position) of each training example by step, and each consolidation."""
    record = {"batches": [], "fishers": []}
    train_step, consolidate = stream.module.training_step, stream.strategy.consolidate

    def step(batch, batch_idx):
        record["batches"].append(list(zip(batch.task.tolist(), batch.position.tolist(), strict=True)))
        return train_step(batch, batch_idx)

    def note(batches, classes=None):
        read = list(batches)
        weights = {name: p.detach().clone() for name, p in stream.model.named_parameters()}
        fisher = consolidate(read, classes)
        record["fishers"].append((len(record["batches"]), read, classes, weights, fisher))
        return fisher

    stream.module.training_step, stream.strategy.consolidate = step, note
    stream.run(STARTED)
    return record


def distinct(stream, examples):
    """Inputs and targets of (task, position) pairs of one task, each once."""
    ((task,), which) = {n for n, _ in examples}, torch.tensor(sorted({p for _, p in examples}))
    part = stream.sequence.tasks[task - 1].train
    return part.inputs(which), part.targets[which]


@pytest.mark.parametrize("strategy", [EWC, OnlineEWC])
@pytest.mark.parametrize(("every", "iterations", "accumulate"), [(4, 10, 1), (3, 10, 1), (3, 7, 2), (20, 6, 1)])
def test_the_fisher_of_exactly_what_was_seen_since(make_stream, strategy, every, iterations, accumulate):
    """Small tasks and many steps, so that examples come again within a stretch: they count once."""
    stream = make_stream(
        strategy, n_tasks=2, iterations=iterations, batch_size=400, consolidate_every=every,
        trainer={"accumulate_grad_batches": accumulate}, options={"strength": 1.0},
    )  # fmt: skip
    record = followed(stream)
    due, since = [], []
    for i, examples in enumerate(record["batches"]):
        task_begins = i % (iterations * accumulate) == 0
        since = list(examples) if task_begins else [*since, *examples]
        step = (i + 1) / accumulate
        if step % every == 0:
            due.append((i + 1, since))
            since = []
    assert [at for at, *_ in record["fishers"]] == [at for at, _ in due]
    assert len(due) == 2 * iterations // every
    for (_, read, classes, weights, fisher), (_, examples) in zip(record["fishers"], due, strict=True):
        inputs, targets = distinct(stream, examples)
        assert torch.equal(torch.cat([x for x, *_ in read]), inputs)
        assert torch.equal(torch.cat([y for _, y, *_ in read]), targets)
        assert classes == range(10)
        with torch.no_grad():
            for name, p in stream.model.named_parameters():
                p.copy_(weights[name])
        expected = estimate_fisher(stream.model, [(inputs, targets)], classes=range(10)).diagonal()
        for name, f in fisher.diagonal().items():
            torch.testing.assert_close(f, expected[name], rtol=1e-5, atol=1e-9)
    assert [e.global_step for e in stream.recorder.of(Consolidated)] == [at // accumulate for at, _ in due]


def test_nothing_is_consolidated_at_task_ends_as_such(make_stream):
    record = followed(make_stream(n_tasks=2, iterations=5, consolidate_every=100))
    assert record["fishers"] == []


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"iterations": 5}, 10),
        ({"iterations": 5, "trainer": {"accumulate_grad_batches": 2}}, 10),
        ({"iterations": None, "epochs": 3, "batch_size": 400}, 24),  # 1294 examples a task
        ({"iterations": None, "epochs": 3, "batch_size": 400, "trainer": {"accumulate_grad_batches": 3}}, 12),
    ],
)
def test_a_stretch_longer_than_the_sequence_is_refused_before_training(make_stream, options, steps):
    make_stream(consolidate_every=steps, **options).check()
    with pytest.raises(InputError, match=f"consolidate_every={steps + 1}: the whole sequence takes {steps} optimizer"):
        make_stream(consolidate_every=steps + 1, **options).check()
    stream = make_stream(consolidate_every=steps, **options)
    stream.run(STARTED)
    assert stream.global_step == steps
    assert len(stream.recorder.of(Consolidated)) == 1


def test_it_does_not_disturb_the_training(make_stream):
    """Without strength the network is that of fine-tuning, bit for bit, dropout and all."""
    free = make_stream(EWC, dropout=True, options={"strength": 0.0}, consolidate_every=2)
    free.run(STARTED)
    plain = make_stream(Finetune, dropout=True)
    plain.run(STARTED)
    assert len(free.recorder.of(Consolidated)) == 6
    assert all(torch.equal(a, b) for a, b in zip(free.model.parameters(), plain.model.parameters(), strict=True))


@pytest.mark.parametrize("step", ["gradient", "proximal"])
def test_a_stream_goes_on_from_its_checkpoint_bit_for_bit(make_stream, tmp_path, step):
    """The clock is that of the sequence: 7 steps a task and 5 between consolidations do not meet at its ends."""
    options = {"n_tasks": 3, "iterations": 7, "consolidate_every": 5, "dropout": True, "options": {"step": step}}
    whole = make_stream(EWC, **options, checkpoint="all", directory=tmp_path)
    whole.run(STARTED)
    for done in (1, 2):
        resumed = make_stream(EWC, **options)
        resumed.load_state_dict(checkpoint.load(tmp_path / "checkpoints" / f"task_{done:03d}.pt"))
        resumed.run(STARTED)
        assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), resumed.model.parameters(), strict=True))
        at = [e.global_step for e in whole.recorder.of(Consolidated)]
        assert at == [5, 10, 15, 20]
        assert [e.global_step for e in resumed.recorder.of(Consolidated)] == [s for s in at if s > 7 * done]
        assert resumed.strategy.penalty() == whole.strategy.penalty()


def test_examples_for_which_other_outputs_compete_do_not_enter(make_stream):
    """With a head for each task and blurred boundaries a Fisher is of the task's own examples."""
    scenario = Scenario("task", blur=0.4)
    stream = make_stream(
        EWC, "split", scenario, n_tasks=2, iterations=6, consolidate_every=3, options={"strength": 1.0}
    )
    record = followed(stream)
    assert len(record["fishers"]) == 4
    for i, (at, read, classes, _, _) in enumerate(record["fishers"]):
        task = 1 + i // 2
        assert classes == stream.sequence.tasks[task - 1].units
        stretch = [pair for batch in record["batches"][at - 3 : at] for pair in batch]
        own = PhaseData({task: stream.phases[task - 1].data[task]})
        which = torch.tensor(sorted({p for n, p in stretch if n == task}))
        assert len({n for n, _ in stretch}) == 2
        assert torch.equal(torch.cat([x for x, *_ in read]), own.inputs(which))
        assert all(int(y) in classes for _, targets, *_ in read for y in targets)


def test_where_the_same_outputs_compete_all_examples_enter(make_stream):
    scenario = Scenario("domain", blur=0.4)
    stream = make_stream(
        EWC, n_tasks=2, iterations=4, consolidate_every=4, scenario=scenario, options={"strength": 1.0}
    )
    record = followed(stream)
    for (_, read, _, _, _), batches in zip(
        record["fishers"], (record["batches"][:4], record["batches"][4:]), strict=True
    ):
        assert sum(len(y) for _, y, *_ in read) == len({pair for batch in batches for pair in batch})
