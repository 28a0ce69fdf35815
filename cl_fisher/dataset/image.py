"""Image files as one uint8 tensor."""

import struct
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cl_fisher.error import InputError

Colour = Literal["rgb", "grey"]
MODES = {"rgb": "RGB", "grey": "L"}
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm")


def is_image(name: str) -> bool:
    """Judged by the ending of its path; what is hidden, or in a hidden folder, is none."""
    return name.lower().endswith(SUFFIXES) and not any(part.startswith(".") for part in name.split("/"))


def read_images(names: Sequence[str], read: Callable[[str], bytes], size: int | None, colour: Colour) -> Tensor:
    """Images, uint8 [N, 3 or 1, height, width], decoded one by one into their final place.

    Args:
        names: of the files, at least one.
        read: the content of a file.
        size: images are resized to size x size pixels (bilinear, with antialiasing); None: they stay as they are.
        colour: what they are converted to.

    Raises:
        InputError: A file cannot be read, is no image or broken, has more than 8 bits a channel, or, without `size`,
            another size.
    """
    images: Tensor | None = None
    for row, name in enumerate(names):
        try:
            content = read(name)
        except OSError as error:
            raise InputError(f"{name} cannot be read: {error.strerror}") from error
        image = _decode(name, content, size, colour)
        if images is None:
            images = torch.empty(len(names), *image.shape, dtype=torch.uint8)
        if image.shape != images.shape[1:]:
            shapes = " and ".join(f"{shape[2]}x{shape[1]}" for shape in (images.shape[1:], image.shape))
            raise InputError(f"{names[0]} and {name} have {shapes} pixels: set dataset.size=... to resize all images")
        images[row] = image
    assert images is not None
    return images


def _decode(name: str, content: bytes, size: int | None, colour: Colour) -> Tensor:
    try:
        with Image.open(BytesIO(content)) as opened:
            mode = opened.mode
            image = (opened.convert("RGBA") if mode == "P" else opened).convert(MODES[colour])  # P may be transparent
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError) as error:
        raise InputError(f"{name} is broken or no image: replace or delete it") from error
    if mode.startswith(("I", "F")):
        raise InputError(f"{name} has more than 8 bits a channel: convert it to 8")
    if size is not None and image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(image, dtype=np.uint8))
    return pixels.unsqueeze(0) if pixels.dim() == 2 else pixels.permute(2, 0, 1)
