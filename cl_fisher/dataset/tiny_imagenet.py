"""Tiny ImageNet (Stanford CS231n, 2015): 200 classes of ImageNet at 64x64 pixels."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from zipfile import ZipFile

import torch
from torchvision.datasets.utils import download_url

from cl_fisher.bounds import Count, checked
from cl_fisher.dataset.examples import DataSet, Examples
from cl_fisher.dataset.fetch import fetch
from cl_fisher.dataset.image import read_images
from cl_fisher.error import InputError

N_CLASSES = 200
NAME = "tiny-imagenet-200"
URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
MD5 = "90528d7ca1a48142e341f4ef8d21d0de"


@checked
def tiny_imagenet(data_dir: str | float | Path, size: Count | None = None) -> DataSet:
    """100,000 training images and, for testing, the 10,000 of the validation set: the test set has no published labels.

    uint8 [N, 3, 64, 64]; labels follow the sorted WordNet identifiers. A folder `data_dir`/tiny-imagenet-200 is taken
    as it is; else the zip file beside it, which is checked by MD5, or downloaded if missing, and read without being
    unpacked. Decoding takes about half a minute, once per process, and 1.4 GB of memory at full size.

    Args:
        data_dir: the folder of all data sets.
        size: pixels of a side; None: 64.

    Raises:
        InputError: A file is damaged, or is missing and cannot be downloaded.
    """
    return _load(Path(str(data_dir)).expanduser().absolute(), size)


@lru_cache(maxsize=1)
def _load(root: Path, size: int | None) -> DataSet:
    names, read = _open(root)
    try:
        wnids = sorted(read("wnids.txt").decode().split())
        notes = [line.split("\t") for line in read("val/val_annotations.txt").decode().splitlines()]
    except (OSError, KeyError) as error:
        raise InputError(f"{root / NAME} is not complete ({error}): delete it, so that the zip file is used") from error
    number = {wnid: i for i, wnid in enumerate(wnids)}
    train = [name for name in names if name.startswith("train/") and name.endswith(".JPEG")]
    test = [f"val/images/{note[0]}" for note in notes]
    parts = []
    for files, kinds in ((train, [name.split("/")[1] for name in train]), (test, [note[1] for note in notes])):
        absent = set(files) - set(names)
        if not files or absent or set(kinds) != set(wnids):
            what = min(absent) if absent else "images of some classes of wnids.txt"
            raise InputError(f"{root / NAME} is not complete ({what}): delete it, so that the zip file is used")
        images = read_images(files, read, size, "rgb")
        targets = torch.tensor([number[kind] for kind in kinds])
        parts.append(Examples(images, torch.arange(len(images)), targets, scale=255.0))
    return DataSet(train=parts[0], test=parts[1], n_classes=len(wnids), classes=tuple(wnids))


def _open(root: Path) -> tuple[list[str], Callable[[str], bytes]]:
    """The files below tiny-imagenet-200, sorted, and how to read one."""
    folder = root / NAME
    if folder.is_dir():
        return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*")), lambda name: (
            folder / name
        ).read_bytes()
    fetch("Tiny ImageNet", root, {f"{NAME}.zip": MD5}, lambda to: download_url(URL, str(to), f"{NAME}.zip", MD5))
    archive = ZipFile(root / f"{NAME}.zip")
    names = sorted(name.removeprefix(f"{NAME}/") for name in archive.namelist())
    return names, lambda name: archive.read(f"{NAME}/{name}")
