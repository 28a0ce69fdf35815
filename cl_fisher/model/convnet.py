"""Small convolutional networks."""

from collections.abc import Sequence

from torch import Tensor, nn

from cl_fisher.bounds import Count, checked
from cl_fisher.error import InputError
from cl_fisher.model.images import image_shape


class ConvNet(nn.Sequential):
    """Convolution, ReLU and 2x2 max pooling, several times; then linear layers (after LeNet, LeCun et al. 1998).

    Args:
        input_shape: channels, height and width of an image, each side at least 2 to the number of convolutions.
        n_outputs: output units, of all tasks together.
        channels: of each convolution; every one halves the image.
        hidden: units of each fully connected hidden layer; may be empty.
        kernel: side of the convolutions' kernels, odd: the image is padded so that its size stays.

    Raises:
        InputError: no images, images too small, an even kernel.
    """

    @checked
    def __init__(
        self,
        input_shape: Sequence[int],
        n_outputs: Count,
        channels: Sequence[Count] = (32, 64),
        hidden: Sequence[Count] = (128,),
        kernel: Count = 5,
    ) -> None:
        before, height, width = image_shape("convnet", input_shape)
        if kernel % 2 == 0:
            raise InputError(f"model.kernel={kernel}: an odd number is wanted")
        if min(height, width) < 2 ** len(channels):
            raise InputError(
                f"model.channels={list(channels)}: {len(channels)} convolutions halve images of {height}x{width} "
                f"to nothing; at most {min(height, width).bit_length() - 1} fit"
            )
        layers: list[nn.Module] = []
        for after in channels:
            layers += [nn.Conv2d(before, after, kernel, padding=kernel // 2), nn.ReLU(), nn.MaxPool2d(2)]
            before, height, width = after, height // 2, width // 2
        layers.append(nn.Flatten())
        units = [before * height * width, *hidden]
        for one, two in zip(units, hidden, strict=False):
            layers += [nn.Linear(one, two), nn.ReLU()]
        super().__init__(*layers, nn.Linear(units[-1], n_outputs))

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [N, n_outputs] of images [N, channels, height, width]."""
        return super().forward(inputs)
