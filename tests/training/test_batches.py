"""Batches: the same from memory and from workers, every example once an epoch."""

import pytest
import torch

from cl_fisher.benchmark.permuted import permuted
from cl_fisher.benchmark.task import Scenario
from cl_fisher.dataset.digits import digits
from cl_fisher.training.batches import LoaderSettings, MemoryBatches, ReadingBatches, training_batches


def parts():
    tasks = permuted(digits(), Scenario("task"), n_tasks=3, seed=0, validation_fraction=0.1).tasks
    return {t.number: t.train for t in tasks}


def epochs(settings, n=2, some=None):
    batches = training_batches(some or parts(), 100, 5, 1, settings)
    result = []
    for epoch in range(n):
        batches.batch_sampler.set_epoch(epoch)
        result.append(list(batches))
    return result


def test_memory_and_workers_agree_bit_for_bit():
    memory = epochs(LoaderSettings(in_memory=True))
    for workers in (0, 2):
        loader = epochs(LoaderSettings(in_memory=False, workers=workers))
        for a, b in zip(memory, loader, strict=True):
            assert all(torch.equal(x, y) for p, q in zip(a, b, strict=True) for x, y in zip(p, q, strict=True))


def test_every_example_once_an_epoch_in_another_order_each():
    first, second = epochs(LoaderSettings())
    n = sum(len(p) for p in parts().values())
    for epoch in (first, second):
        seen = torch.stack([torch.cat([b.task for b in epoch]), torch.cat([b.position for b in epoch])])
        wanted = [torch.stack([torch.full((len(p),), number), torch.arange(len(p))]) for number, p in parts().items()]
        assert torch.equal(seen.unique(dim=1), torch.cat(wanted, 1))
        assert [len(targets) for _, targets, _, _ in epoch] == [100] * (n // 100) + [n % 100]
    assert not torch.equal(first[0][2], second[0][2])


def test_parts_keep_their_own_images_and_targets():
    tasks = parts()
    for inputs, targets, position, task in epochs(LoaderSettings(), n=1)[0][:3]:
        for i in range(0, 100, 17):
            own = tasks[int(task[i])]
            assert torch.equal(inputs[i], own.inputs(position[i][None])[0])
            assert targets[i] == own.targets[position[i]]


@pytest.mark.parametrize(
    ("settings", "in_memory"),
    [({"memory_gb": 1.0}, True), ({"memory_gb": 1e-6}, False), ({"in_memory": True, "memory_gb": 0.0}, True)],
)
def test_auto_goes_by_size(settings, in_memory):
    batches = training_batches(parts(), 100, 0, 1, LoaderSettings(**settings))
    assert isinstance(batches, MemoryBatches) == in_memory


def test_reading_batches():
    examples = parts()[1]
    batches = list(ReadingBatches(examples))
    assert [len(t) for _, t, _ in batches] == [500, 500, len(examples) - 1000]
    assert torch.equal(torch.cat([i for i, _, _ in batches]), examples.inputs(torch.arange(len(examples))))
    some = torch.tensor([7, 3])
    ((inputs, targets, index),) = ReadingBatches(examples, some)
    assert torch.equal(inputs, examples.inputs(some))
    assert torch.equal(targets, examples.targets[some])
    assert torch.equal(index, some)
