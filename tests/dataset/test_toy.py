import pytest
import torch

from cl_fisher.dataset.toy import toy
from cl_fisher.error import InputError


@pytest.mark.parametrize("kind", ["blobs", "spirals"])
def test_points_lie_in_the_square_and_depend_on_the_seed_alone(kind):
    data, same, other = toy(kind, 5, 40), toy(kind, 5, 40), toy(kind, 5, 40, seed=1)
    assert (len(data.train), len(data.test), data.n_classes, data.train.shape) == (200, 200, 5, (2,))
    points = data.train.inputs(torch.arange(200))
    assert points.dtype == torch.float32
    assert points.min() >= 0
    assert points.max() <= 1
    assert data.train.targets.bincount().tolist() == data.test.targets.bincount().tolist() == [40] * 5
    assert same.train.source.equal(data.train.source)
    assert not other.train.source.equal(data.train.source)
    assert not data.test.source.equal(data.train.source)


@pytest.mark.parametrize("kind", ["blobs", "spirals"])
def test_the_nearest_training_point_tells_the_class(kind):
    data = toy(kind, 4, 200, noise=0.01)
    nearest = torch.cdist(data.test.source, data.train.source).argmin(1)
    assert (data.train.targets[nearest] == data.test.targets).float().mean() > 0.98


def test_only_blobs_can_be_told_apart_by_straight_lines():
    share = {}
    for kind in ("blobs", "spirals"):
        data = toy(kind, 4, 200, noise=0.01)
        means = torch.stack([data.train.source[data.train.targets == c].mean(0) for c in range(4)])
        share[kind] = (torch.cdist(data.test.source, means).argmin(1) == data.test.targets).float().mean()
    assert share["blobs"] == 1
    assert share["spirals"] < 0.7


def test_noise_is_the_standard_deviation():
    data = toy("blobs", 2, 20_000, noise=0.03)
    assert data.train.source[data.train.targets == 0].std(0).tolist() == pytest.approx([0.03, 0.03], rel=0.03)
    assert toy(noise=0).train.source.unique(dim=0).shape == (10, 2)


@pytest.mark.parametrize("options", [{"n_classes": 1}, {"per_class": 0}, {"noise": -1.0}, {"kind": "moons"}])
def test_wrong_options(options):
    with pytest.raises(InputError, match=next(iter(options))):
        toy(**options)
