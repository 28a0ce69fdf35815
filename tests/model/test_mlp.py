"""The MLP."""

import pytest
import torch
from torch import nn

from cl_fisher.error import InputError
from cl_fisher.model.mlp import MLP


def test_layers():
    model = MLP((1, 4, 4), 3, hidden=[5, 6])
    assert [(m.in_features, m.out_features) for m in model if isinstance(m, nn.Linear)] == [(16, 5), (5, 6), (6, 3)]
    assert model(torch.zeros(2, 1, 4, 4)).shape == (2, 3)


def test_no_hidden_layer_is_softmax_regression():
    assert len([m for m in MLP((4,), 3, hidden=[]) if isinstance(m, nn.Linear)]) == 1


@pytest.mark.parametrize("hidden", [[0], [4, -1], [2.5], ["a"], [True]])
def test_bad_widths(hidden):
    with pytest.raises(InputError, match="hidden="):
        MLP((4,), 3, hidden=hidden)
