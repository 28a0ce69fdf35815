import pytest
import torch

from cl_fisher.dataset.digits import digits
from cl_fisher.dataset.label_noise import label_noise
from cl_fisher.dataset.toy import toy
from cl_fisher.error import InputError


@pytest.mark.parametrize("fraction", [0.1, 0.5, 1.0])
def test_exactly_so_many_labels_are_wrong(fraction):
    clean, noisy = digits(), label_noise(digits(), fraction, seed=0)
    assert int((clean.train.targets != noisy.train.targets).sum()) == round(fraction * len(clean.train))
    assert noisy.train.targets.min() >= 0
    assert noisy.train.targets.max() < 10
    assert noisy.test.targets.equal(clean.test.targets)
    assert noisy.train.rows.equal(clean.train.rows)


def test_the_wrong_labels_are_uniform_over_the_others():
    clean = toy(n_classes=4, per_class=10_000)
    noisy = label_noise(clean, 1.0, seed=0)
    counts = torch.zeros(4, 4)
    counts.index_put_((clean.train.targets, noisy.train.targets), torch.ones(40_000), accumulate=True)
    assert counts.diagonal().tolist() == [0] * 4
    others = counts[~torch.eye(4, dtype=bool)]
    assert (others / 10_000 - 1 / 3).abs().max() < 4 * (1 / 3 * 2 / 3 / 10_000) ** 0.5


def test_seed():
    one, same, other = (label_noise(digits(), 0.3, seed).train.targets for seed in (1, 1, 2))
    assert one.equal(same)
    assert not one.equal(other)


def test_none_changes_nothing_and_the_cached_data_stay_right():
    before = digits().train.targets.clone()
    assert label_noise(digits(), 0.0, seed=0) is digits()
    label_noise(digits(), 0.7, seed=0)
    assert digits().train.targets.equal(before)


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
def test_bounds(fraction):
    with pytest.raises(InputError, match="fraction"):
        label_noise(digits(), fraction, seed=0)
