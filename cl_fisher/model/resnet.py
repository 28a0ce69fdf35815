"""Residual networks for small images."""

from collections.abc import Sequence
from typing import Literal, get_args

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, conv1x1, conv3x3

from cl_fisher.bounds import Count, checked
from cl_fisher.error import InputError
from cl_fisher.model.images import image_shape

Depth = Literal[18, 20, 32, 44, 56]


class ResNet(nn.Sequential):
    """A 3x3 stem without pooling, stages of torchvision's BasicBlocks, the mean over positions, a linear layer.

    Depth 18 has four stages of two blocks, with `width` (64), 2, 4 and 8 times as many channels; width 20 is the
    "reduced ResNet-18" of Lopez-Paz & Ranzato 2017 and van de Ven 2025. Depths 20 to 56 have three stages of
    (depth - 2) / 6 blocks, with `width` (16), 2 and 4 times as many: the CIFAR networks of He et al. 2016, section 4.2.
    Every stage but the first halves the image.

    Where a block changes the shape, its shortcut is a 1x1 convolution with batch norm (He et al.'s option B), in all
    depths: it is what BasicBlock has and what both papers on the reduced network use. He et al.'s CIFAR networks fill
    up with zeros instead (option A), which saves 2,752 of the 466,906 parameters of ResNet-32 for 10 classes.

    Weights of convolutions are drawn as in He et al. 2015 (normal, fan out), as in torchvision.

    Args:
        input_shape: channels, height and width of an image.
        n_outputs: output units, of all tasks together.
        depth: number of layers with weights, shortcuts not counted.
        width: channels of the first stage; None: 64 for depth 18, else 16.

    Raises:
        InputError: no images, or a depth that there is not.
    """

    @checked
    def __init__(
        self, input_shape: Sequence[int], n_outputs: Count, depth: Depth = 18, width: Count | None = None
    ) -> None:
        if depth not in get_args(Depth):
            raise InputError(f"model.depth={depth} is not one of {', '.join(map(str, get_args(Depth)))}")
        n_channels, _, _ = image_shape(f"resnet{depth}", input_shape)
        n_stages, n_blocks, usual = (4, 2, 64) if depth == 18 else (3, (depth - 2) // 6, 16)
        width = usual if width is None else width
        widths = [width * 2**i for i in range(n_stages)]
        stages = [
            _stage(before, after, n_blocks, 1 if i == 0 else 2)
            for i, (before, after) in enumerate(zip([width, *widths], widths, strict=False))
        ]
        super().__init__(
            conv3x3(n_channels, width),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            *stages,
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(widths[-1], n_outputs),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [N, n_outputs] of images [N, channels, height, width]."""
        return super().forward(inputs)


def _stage(before: int, after: int, n_blocks: int, stride: int) -> nn.Sequential:
    same = stride == 1 and before == after
    shortcut = None if same else nn.Sequential(conv1x1(before, after, stride), nn.BatchNorm2d(after))
    rest = (BasicBlock(after, after) for _ in range(n_blocks - 1))
    return nn.Sequential(BasicBlock(before, after, stride, shortcut), *rest)
