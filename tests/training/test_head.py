"""Class-incremental heads: which classes compete in training, in consolidation and in prediction."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from cl_fisher.benchmark.task import Scenario
from cl_fisher.event import Evaluated, RunStarted
from cl_fisher.strategy.ewc import EWC
from cl_fisher.strategy.finetune import Finetune
from cl_fisher.training.evaluate import accuracies

STARTED = RunStarted(3, 3, {}, {})
UNITS = [range(4), range(4, 7), range(7, 10)]
COMPETING = {
    "separate": UNITS,
    "growing": [range(4), range(7), range(10)],
    "full": [range(10)] * 3,
}
PREDICTED = {"separate": COMPETING["growing"], "growing": COMPETING["growing"], "full": COMPETING["full"]}
HEADS = pytest.mark.parametrize("head", COMPETING)


def split_stream(make_stream, head, strategy=Finetune, **options):
    return make_stream(strategy, "split", Scenario("class", head=head), n_tasks=3, **options)


@HEADS
def test_the_training_loss_is_over_the_classes_that_compete(make_stream, head):
    """By a naive sum over examples; rows of all other classes get no gradient."""
    stream = split_stream(make_stream, head, sgd={"lr": 0.1}, iterations=2)
    train_step, seen = stream.module.training_step, []

    def step(batch, batch_idx):
        loss = train_step(batch, batch_idx)
        competing = COMPETING[head][len(seen) // 2]
        logits = stream.model(batch.inputs).detach()
        naive = [
            cross_entropy(z[list(competing)], y - competing.start) for z, y in zip(logits, batch.targets, strict=True)
        ]
        torch.testing.assert_close(loss.detach(), torch.stack(naive).mean(), rtol=1e-5, atol=1e-6)
        seen.append(loss)
        return loss

    stream.module.training_step = step
    for competing, phase in zip(COMPETING[head], stream.phases, strict=True):
        before = stream.model[-1].bias.detach().clone()
        stream.train(phase)
        moved = (stream.model[-1].bias.detach() != before).nonzero().flatten().tolist()
        assert moved == list(competing)
    assert len(seen) == 6


@HEADS
def test_prediction_is_over_the_classes_seen_so_far(make_stream, head):
    stream = split_stream(make_stream, head)
    for seen, phase in enumerate(stream.phases, start=1):
        stream.train(phase)
        row = accuracies(stream.model, stream.strategy, stream.sequence, "test", seen)
        for task, found in zip(stream.sequence.tasks, row, strict=True):
            if head != "full" and task.number > seen:
                assert found is None
                continue
            logits = stream.model(task.test.inputs(torch.arange(len(task.test)))).detach()
            candidates = list(PREDICTED[head][seen - 1])
            best = torch.tensor(candidates)[logits[:, candidates].argmax(1)]
            assert found == pytest.approx(float((best == task.test.targets).double().mean()))


@HEADS
def test_the_fisher_is_of_the_classes_that_compete(make_stream, head):
    stream = split_stream(make_stream, head, EWC)
    consolidate, given = stream.strategy.consolidate, []
    stream.strategy.consolidate = lambda batches, classes: given.append(classes) or consolidate(batches, classes)
    stream.run(STARTED)
    assert given == COMPETING[head]
    assert len([e for e in stream.recorder.of(Evaluated) if e.split == "test"]) == 4


def test_what_separate_heads_learn_is_not_what_a_growing_one_does(make_stream):
    """Old classes are not pushed down while new ones are trained, so that more of the first task is left."""
    left = {}
    for head in ("separate", "growing"):
        stream = split_stream(make_stream, head, sgd={"lr": 0.05}, iterations=40)
        stream.run(STARTED)
        left[head] = stream.model[-1].bias.detach()[:4]
    assert not torch.equal(left["separate"], left["growing"])
    assert bool((left["growing"] < left["separate"]).all())
