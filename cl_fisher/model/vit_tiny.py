"""Vision transformers for small images."""

from collections.abc import Sequence

from torch import nn
from torchvision.models.vision_transformer import VisionTransformer

from cl_fisher.bounds import Count, Fraction, checked
from cl_fisher.error import InputError
from cl_fisher.model.images import image_shape


@checked
def vit_tiny(
    input_shape: Sequence[int],
    n_outputs: Count,
    patch: Count = 4,
    width: Count = 192,
    depth: Count = 12,
    heads: Count = 3,
    dropout: Fraction = 0.0,
) -> VisionTransformer:
    """The vision transformer of torchvision (Dosovitskiy et al. 2021) in the size of ViT-Ti (Touvron et al. 2021).

    Its output layer is zero at first, as torchvision leaves it. The fully connected layers have 4 * `width` units.

    Args:
        input_shape: channels, height and width of an image; a square.
        n_outputs: output units, of all tasks together.
        patch: side of a patch in pixels; it divides that of the image.
        width: entries of a token; `heads` divides it.
        depth: number of blocks.
        heads: of attention.
        dropout: of tokens, in training.

    Raises:
        InputError: no images, no squares, sizes that do not divide each other.
    """
    channels, height, side = image_shape("vit_tiny", input_shape)
    if height != side:
        raise InputError(f"model=vit_tiny needs square images, but they are {height}x{side}")
    if side % patch:
        raise InputError(f"model.patch={patch}: it must divide the side of the images, {side} pixels")
    if width % heads:
        raise InputError(f"model.width={width}: it must be a multiple of model.heads={heads}")
    model = VisionTransformer(
        image_size=side,
        patch_size=patch,
        num_layers=depth,
        num_heads=heads,
        hidden_dim=width,
        mlp_dim=4 * width,
        dropout=dropout,
        num_classes=n_outputs,
    )
    if channels != 3:  # the only number that torchvision knows; drawn as there
        model.conv_proj = nn.Conv2d(channels, width, kernel_size=patch, stride=patch)
        nn.init.trunc_normal_(model.conv_proj.weight, std=(channels * patch**2) ** -0.5)
        assert model.conv_proj.bias is not None
        nn.init.zeros_(model.conv_proj.bias)
    return model
