"""What networks for images ask of their inputs."""

from collections.abc import Sequence

from cl_fisher.error import InputError


def image_shape(model: str, input_shape: Sequence[int]) -> tuple[int, int, int]:
    """Channels, height and width; InputError naming the choice `model` if the inputs are no images."""
    if len(input_shape) != 3:
        raise InputError(
            f"model={model} needs images [channels, height, width], but an input has shape {list(input_shape)}: "
            "choose another dataset, or model=mlp, which takes any shape"
        )
    channels, height, width = input_shape
    return channels, height, width
