"""Batches put together and cut up again."""

import pytest
import torch

from cl_fisher.error import InputError
from cl_fisher.fisher import estimate_fisher
from cl_fisher.fisher.batches import read, regrouped

LIKE = torch.zeros(())


def stream(*sizes, inputs=lambda index: index[:, None] * 1.0):
    index = torch.arange(sum(sizes))
    return read([(inputs(i), 10 * i, i + 100) for i in index.split(sizes)], LIKE)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 10, 11, 30])
@pytest.mark.parametrize("sizes", [(10,), (3, 3, 3, 1), (1, 2, 7), (4, 6)])
def test_the_same_examples_in_batches_of_one_size(sizes, size):
    groups = list(regrouped(stream(*sizes), size))
    assert [len(g) for g in groups] == [size] * (10 // size) + [10 % size] * (10 % size > 0)
    assert torch.cat([g.targets for g in groups]).tolist() == list(range(0, 100, 10))
    assert torch.cat([g.index for g in groups]).tolist() == list(range(100, 110))
    assert torch.cat([g.inputs for g in groups]).flatten().tolist() == list(range(10))


def test_inputs_may_be_structures():
    shared = torch.ones(2)  # as long as a group, but not as the batches
    groups = list(regrouped(stream(5, 5, inputs=lambda i: {"x": i, "more": [i * 2, shared, "text"]}), 2))
    assert [g.inputs["x"].tolist() for g in groups] == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    assert [g.inputs["more"][0].tolist() for g in groups][2] == [8, 10]
    assert all(torch.equal(g.inputs["more"][1], shared) and g.inputs["more"][2] == "text" for g in groups)


@pytest.mark.parametrize("progress", [False, lambda *_: None])
@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"input_ids": torch.ones(3, 6), "labels": torch.zeros(3).long()}, "must be .inputs, targets.*not dict"),
        ((torch.ones(3, 6), None), "targets must be a tensor.*NoneType"),
        (torch.ones(6), "must be .inputs, targets.*not Tensor"),
        ((torch.ones(3, 6), torch.tensor(1)), "of no dimension"),
        ((torch.ones(3, 6),), "must be .inputs, targets"),
    ],
)
def test_what_is_no_batch_is_told_what_one_is(batch, message, progress):
    with pytest.raises(InputError, match=message):
        estimate_fisher(torch.nn.Linear(6, 4), [batch], progress=progress)


def test_nothing_is_read_ahead():
    seen = []
    groups = regrouped((seen.append(len(b)) or b for b in stream(2, 2, 2, 2)), 3)
    assert len(next(groups)) == 3
    assert seen == [2, 2]


def test_sequences_of_different_lengths_cannot_be_joined():
    batches = read([(torch.zeros(2, 5), torch.zeros(2)), (torch.zeros(2, 6), torch.zeros(2))], LIKE)
    with pytest.raises(InputError, match="different shapes cannot be joined"):
        list(regrouped(batches, 3))
    batches = read([(torch.zeros(2, 5), torch.zeros(2)), (torch.zeros(2, 6), torch.zeros(2))], LIKE)
    assert [len(g) for g in regrouped(batches, 2)] == [2, 2]
