"""Residual networks."""

import pytest
import torch
from torch import nn

from cl_fisher.error import InputError
from cl_fisher.model.resnet import ResNet

OPTION_B = 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64


def n_parameters(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("options", "n"),
    [
        ({}, 11_173_962),  # ResNet-18 for CIFAR-10 as it is widely used
        ({"depth": 20}, 269_722 + OPTION_B),  # 0.27, 0.46, 0.66, 0.85 million with option A: He et al. 2016, table 6
        ({"depth": 32}, 464_154 + OPTION_B),
        ({"depth": 44}, 658_586 + OPTION_B),
        ({"depth": 56}, 853_018 + OPTION_B),
    ],
)
def test_sizes_that_are_known(options, n):
    assert n_parameters(ResNet((3, 32, 32), 10, **options)) == n


@pytest.mark.parametrize(("depth", "width"), [(18, 2), (20, 3), (32, 2)])
def test_depth_and_widths(depth, width):
    model = ResNet((3, 32, 32), 10, depth=depth, width=width)
    weights = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    shortcuts = [m for m in weights if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)]
    assert len(weights) - len(shortcuts) == depth
    widths = [width * 2**i for i in range(4 if depth == 18 else 3)]
    assert [m.out_channels for m in shortcuts] == widths[1:]
    assert weights[-1].in_features == widths[-1]


def test_the_image_is_halved_from_stage_to_stage():
    model, sizes = ResNet((3, 32, 32), 10, width=1), []
    for layer in model:
        layer.register_forward_hook(lambda m, _, y: sizes.append(y.shape[2]) if isinstance(m, nn.Sequential) else None)
    model(torch.zeros(2, 3, 32, 32))
    assert sizes == [32, 16, 8, 4]


def test_no_such_depth():
    with pytest.raises(InputError, match=r"model.depth=34 is not one of 18, 20, 32, 44, 56"):
        ResNet((3, 32, 32), 10, depth=34)
