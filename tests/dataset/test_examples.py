from dataclasses import replace

import pytest
import torch

from cl_fisher.dataset.examples import DataSet, Examples
from cl_fisher.error import InputError


def make(n: int = 6) -> Examples:
    source = torch.randint(0, 256, (10, 3, 4, 4), dtype=torch.uint8)
    rows = torch.randperm(10)[:n]
    return Examples(source, rows, torch.arange(n), scale=255.0, transform=lambda raw: raw.flip(-1))


def test_one_by_one_is_bit_for_bit_the_batch():
    examples = make()
    batch = examples.inputs(torch.arange(6))
    for i in range(6):
        assert examples.inputs(torch.tensor([i])).equal(batch[i : i + 1])


def test_materialised_is_bit_for_bit_the_same():
    examples = make()
    memory = examples.materialised()
    which = torch.tensor([4, 0, 0, 2])
    assert memory.inputs(which).equal(examples.inputs(which))
    assert memory.targets.equal(examples.targets)
    assert memory.source.nbytes == examples.bytes


def test_subset_keeps_inputs_and_targets_together():
    examples = make()
    part = examples.subset(torch.tensor([5, 1]))
    assert part.targets.tolist() == [5, 1]
    assert part.inputs(torch.arange(2)).equal(examples.inputs(torch.tensor([5, 1])))


def test_empty_examples_work():
    empty = make().subset(torch.tensor([], dtype=torch.int64))
    assert len(empty) == 0
    assert empty.materialised().inputs(torch.arange(0)).shape == (0, 3, 4, 4)


def test_inputs_do_not_write_to_the_source():
    examples = make()
    before = examples.source.clone()
    examples.inputs(torch.arange(6))
    assert examples.source.equal(before)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"targets": torch.arange(1, 7)}, "targets go from 1 to 6: with n_classes=6 they must be labels from 0 to 5"),
        ({"targets": torch.arange(-1, 5)}, "targets go from -1 to 4"),
        ({"targets": torch.arange(5)}, "has 6 examples and 5 targets"),
        ({"targets": torch.arange(6.0)}, r"targets are float32 \[6\]: int64 \[N\] is wanted"),
        ({"targets": torch.zeros(6, 1, dtype=torch.int64)}, r"targets are int64 \[6, 1\]"),
        ({"rows": torch.arange(0), "targets": torch.arange(0)}, "has 0 examples"),
        ({"source": torch.zeros(10, 3, 5, 5)}, r"differ in shape: \[3, [45], [45]\] and \[3, [45], [45]\]"),
    ],
)
@pytest.mark.parametrize("part", ["train", "test"])
def test_a_data_set_that_no_task_could_be_made_of(change, words, part):
    parts = {"train": make(), "test": make()}
    DataSet(**parts, n_classes=6)
    with pytest.raises(InputError, match=words):
        DataSet(**parts | {part: replace(parts[part], **change)}, n_classes=6)
