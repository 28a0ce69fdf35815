"""Omniglot (Lake et al. 2015): 1,623 characters of 50 alphabets, each drawn once by 20 people."""

from functools import lru_cache
from pathlib import Path
from typing import Literal
from zipfile import ZipFile

import torch
from torchvision import datasets
from torchvision.datasets.utils import download_url

from cl_fisher.bounds import Count, checked
from cl_fisher.dataset.examples import DataSet, Examples
from cl_fisher.dataset.fetch import fetch
from cl_fisher.dataset.image import read_images

N_CLASSES = {"label": {"character": 1623, "alphabet": 50}}
FOLDER = "omniglot-py"
TRAINED = 15
"""The drawers whose images are for training, from the first on."""


@checked
def omniglot(
    data_dir: str | float | Path, size: Count | None = 28, label: Literal["character", "alphabet"] = "character"
) -> DataSet:
    """Training images of drawers 1 to 15, test images of drawers 16 to 20; uint8 [N, 1, size, size], ink 0, paper 255.

    There is no official split with the same classes on both sides ("background" and "evaluation" are different
    alphabets; both are used), so this one is ours: 24,345 and 8,115 images, 15 and 5 of each character. Characters are
    numbered alphabet by alphabet, in alphabetical order. The two zip files lie where torchvision puts them, below
    `data_dir`/omniglot-py, are downloaded if one is missing, and are read without being unpacked, once per process.

    Args:
        data_dir: the folder of all data sets.
        size: pixels of a side; None: 105, as drawn.
        label: what is told apart.

    Raises:
        InputError: A file is damaged, or is missing and cannot be downloaded.
    """
    return _load(Path(str(data_dir)).expanduser().absolute(), size, label)


@lru_cache(maxsize=1)
def _load(root: Path, size: int | None, label: str) -> DataSet:
    sums = datasets.Omniglot.zips_md5
    fetch("Omniglot", root, {f"{FOLDER}/{part}.zip": md5 for part, md5 in sums.items()}, _download)
    archives = {part: ZipFile(root / FOLDER / f"{part}.zip") for part in sums}
    names = [name for archive in archives.values() for name in archive.namelist() if name.endswith(".png")]
    names.sort(key=lambda name: name.split("/")[1:])  # part/alphabet/character/number_drawer.png
    images = read_images(names, lambda name: archives[name.split("/")[0]].read(name), size, "grey")
    kinds = [" ".join(name.split("/")[1 : 3 if label == "character" else 2]) for name in names]
    classes = sorted(set(kinds))
    number = {kind: i for i, kind in enumerate(classes)}
    targets = torch.tensor([number[kind] for kind in kinds])
    trained = torch.tensor([int(name[:-4].rpartition("_")[2]) <= TRAINED for name in names])
    parts = [Examples(images, mask.nonzero().flatten(), targets[mask], scale=255.0) for mask in (trained, ~trained)]
    return DataSet(train=parts[0], test=parts[1], n_classes=len(classes), classes=tuple(classes))


def _download(root: Path) -> None:
    for part, md5 in datasets.Omniglot.zips_md5.items():
        download_url(f"{datasets.Omniglot.download_url_prefix}/{part}.zip", str(root / FOLDER), f"{part}.zip", md5)
