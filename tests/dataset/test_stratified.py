import pytest
import torch

from cl_fisher.dataset.stratified import stratified


@pytest.mark.parametrize(
    ("sizes", "fraction", "wanted"),
    [
        ([10, 20, 30], 0.1, [1, 2, 3]),
        ([10, 2, 1], 0.1, [1, 1, 0]),
        ([10, 2, 1], 0.99, [9, 1, 0]),
        ([10, 2, 1], 0.0, [0, 0, 0]),
    ],
)
def test_counts(sizes, fraction, wanted):
    targets = torch.arange(3).repeat_interleave(torch.tensor(sizes))[torch.randperm(sum(sizes))]
    drawn = stratified(targets, fraction, torch.Generator().manual_seed(0))
    assert targets[drawn].bincount(minlength=3).tolist() == wanted
    assert drawn.equal(stratified(targets, fraction, torch.Generator().manual_seed(0)))


def test_every_example_is_as_likely():
    counts = torch.zeros(10)
    draw = torch.Generator().manual_seed(0)
    for _ in range(2000):
        counts += stratified(torch.tensor([0, 1] * 5), 0.4, draw)
    assert (counts / 2000 - 0.4).abs().max() < 4 * (0.4 * 0.6 / 2000) ** 0.5
