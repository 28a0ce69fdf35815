import torch

from cl_fisher.dataset.examples import Examples


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
