"""The vision transformer."""

import pytest
import torch

from cl_fisher.error import InputError
from cl_fisher.model.vit_tiny import vit_tiny


def test_the_size_of_vit_ti():
    """5.4 million with 4x4 patches of 32x32 images and 10 outputs: 12 blocks, tokens, norm, patches, head."""
    w = 192
    block = (3 * w * w + 3 * w) + (w * w + w) + (4 * w * w + 4 * w) + (4 * w * w + w) + 4 * w
    rest = w + 65 * w + 2 * w + (3 * 16 * w + w) + 10 * w + 10
    assert sum(p.numel() for p in vit_tiny((3, 32, 32), 10).parameters()) == 12 * block + rest


@pytest.mark.parametrize("channels", [1, 3])
def test_patches_are_drawn_alike_for_any_number_of_channels(channels):
    torch.manual_seed(0)
    weight = vit_tiny((channels, 8, 8), 10, width=192, depth=1).conv_proj.weight
    assert weight.shape == (192, channels, 4, 4)
    assert float(weight.detach().std()) == pytest.approx(
        (channels * 16) ** -0.5, rel=0.15
    )  # truncated at 2: never beyond


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((1, 8, 6), {}, "square images, but they are 8x6"),
        ((1, 8, 8), {"patch": 3}, "model.patch=3: it must divide the side of the images, 8 pixels"),
        ((1, 8, 8), {"heads": 5}, "model.width=192: it must be a multiple of model.heads=5"),
        ((1, 8, 8), {"depth": 0}, "depth=0"),
    ],
)
def test_wrong_options(shape, options, message):
    with pytest.raises(InputError, match=message):
        vit_tiny(shape, 3, **options)
