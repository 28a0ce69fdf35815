import torch

from cl_fisher.dataset.digits import N_CLASSES, digits


def test_sizes_types_and_range():
    data = digits()
    assert (len(data.train), len(data.test), data.n_classes) == (1437, 360, N_CLASSES)
    assert data.train.source.dtype == torch.uint8
    assert data.train.shape == (1, 8, 8)
    pixels = data.train.inputs(torch.arange(1437))
    assert pixels.dtype == torch.float32
    assert (pixels.min(), pixels.max()) == (0, 1)


def test_split_is_fixed_stratified_and_complete():
    data = digits()
    rows = torch.cat([data.train.rows, data.test.rows])
    assert rows.sort().values.equal(torch.arange(1797))
    assert data.test.targets.bincount().tolist() == [36, 36, 36, 36, 37, 36, 36, 36, 35, 36]
    assert data.test.rows[:5].tolist() == [0, 2, 4, 17, 21], "the test set has changed: every published number moves"


def test_first_image_is_the_zero_that_everyone_knows():
    zero = digits().test.raw(torch.tensor([0]))[0, 0]
    assert zero[0].tolist() == [0, 0, 5, 13, 9, 1, 0, 0]
    assert digits().test.targets[0] == 0
