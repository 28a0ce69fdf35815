import pytest
import torch

from cl_fisher.benchmark.validation import hold_out
from cl_fisher.dataset.digits import digits
from cl_fisher.dataset.examples import Examples
from cl_fisher.error import InputError


@pytest.mark.parametrize("fraction", [0, 0.0, 0.1, 0.5, 0.999])
def test_train_and_validation_are_all(fraction):
    whole = digits().train
    train, validation = hold_out(whole, fraction, seed=0)
    assert torch.cat([train.rows, validation.rows]).sort().values.equal(whole.rows.sort().values)
    assert (len(validation) == 0) == (fraction == 0)
    assert len(validation) == pytest.approx(fraction * len(whole), abs=10)
    for part in (train, validation):
        order = part.rows
        assert order.equal(order.sort().values)
        assert part.targets.equal(whole.targets[torch.searchsorted(whole.rows, order)])


def test_every_class_is_in_both():
    for fraction in (0.001, 0.1, 0.999):
        for part in hold_out(digits().train, fraction, seed=0):
            assert part.targets.unique().tolist() == list(range(10))


def test_a_lone_example_is_trained_on():
    targets = torch.tensor([0, 1, 1])
    lone = Examples(torch.zeros(3, 1, 2, 2), torch.arange(3), targets)
    train, validation = hold_out(lone, 0.9, seed=0)
    assert sorted(train.targets.tolist()) == [0, 1]
    assert validation.targets.tolist() == [1]


def test_seed_decides():
    draws = [hold_out(digits().train, 0.1, seed)[1].rows for seed in (0, 0, 1)]
    assert draws[0].equal(draws[1])
    assert not draws[0].equal(draws[2])


@pytest.mark.parametrize("fraction", [-0.1, 1, 1.5, float("nan")])
def test_bounds(fraction):
    with pytest.raises(InputError, match="fraction"):
        hold_out(digits().train, fraction, seed=0)
