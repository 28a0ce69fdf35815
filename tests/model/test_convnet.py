"""The convolutional network."""

import pytest
import torch
from torch import nn

from cl_fisher.error import InputError
from cl_fisher.model.convnet import ConvNet


def test_layers():
    model = ConvNet((3, 13, 9), 4, channels=[5, 6], hidden=[7], kernel=3)
    assert [tuple(p.shape) for p in model.parameters() if p.dim() > 1] == [
        (5, 3, 3, 3), (6, 5, 3, 3), (7, 6 * 3 * 2), (4, 7),
    ]  # fmt: skip
    assert model(torch.zeros(2, 3, 13, 9)).shape == (2, 4)


def test_without_convolutions_and_hidden_layers_it_is_softmax_regression():
    assert [type(m) for m in ConvNet((1, 4, 4), 3, channels=[], hidden=[])] == [nn.Flatten, nn.Linear]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": [2, 2, 2, 2]}, r"4 convolutions halve images of 8x9 to nothing; at most 3 fit"),
        ({"kernel": 4}, r"model.kernel=4: an odd number"),
        ({"channels": [0]}, r"channels=0"),
        ({"hidden": [2.5]}, r"hidden=2.5"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(InputError, match=message):
        ConvNet((1, 8, 9), 3, **options)
