"""What cannot be estimated is refused before a task is trained, not after it."""

import pytest
import torch
from torch import nn

from cl_fisher.error import InputError
from cl_fisher.fisher.estimator.exact import Exact
from cl_fisher.strategy.ewc import EWC
from cl_fisher.strategy.online_ewc import OnlineEWC
from cl_fisher.training.callback import EWCCallback

WRONG = [
    ({"estimator": "foo"}, "estimator=foo is unknown"),
    ({"estimator": ["exact"]}, "estimator=.*is unknown"),
    ({"structure": "foo"}, "structure=foo is unknown"),
    ({"likelihood": "foo"}, "likelihood=foo is unknown"),
    ({"sampling": "x"}, "sampling=x is unknown"),
    ({"sampling": "importance"}, "say how many"),
    ({"sampling": "importance", "samples": 9, "until": 0.1}, "equal weight"),
    ({"estimator": "batched_empirical", "structure": "kronecker"}, "no matrix beyond a diagonal"),
    ({"estimator": "batched_empirical", "structure": "dense"}, "no matrix beyond a diagonal"),
]


@pytest.mark.parametrize(("options", "message"), WRONG)
@pytest.mark.parametrize("strategy", [EWC, OnlineEWC])
def test_a_strategy_is_not_made_with_what_it_cannot_do(strategy, options, message):
    with pytest.raises(InputError, match=message):
        strategy(nn.Linear(6, 4), **options)


@pytest.mark.parametrize(("options", "message"), WRONG)
@pytest.mark.parametrize("online", [False, True])
def test_nor_is_the_callback(online, options, message):
    with pytest.raises(InputError, match=message):
        EWCCallback(online=online, **options)


def test_objects_are_choices_too():
    EWC(nn.Linear(6, 4), estimator=Exact()).consolidate([(torch.randn(5, 6), torch.zeros(5).long())])
