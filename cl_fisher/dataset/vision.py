"""Data sets that torchvision knows, found on disk or downloaded by it.

MNIST (LeCun et al. 1998), Fashion-MNIST (Xiao et al. 2017), KMNIST (Clanuwat et al. 2018), EMNIST (Cohen et al. 2017),
SVHN (Netzer et al. 2011), CIFAR-10 and CIFAR-100 (Krizhevsky 2009).
"""

import warnings
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torchvision import datasets
from torchvision.datasets.mnist import read_image_file, read_label_file

from cl_fisher.bounds import check_choice
from cl_fisher.dataset.examples import DataSet, Examples
from cl_fisher.dataset.fetch import fetch
from cl_fisher.dataset.n_classes import n_classes
from cl_fisher.error import InputError

Name = Literal["MNIST", "FashionMNIST", "KMNIST", "EMNIST", "SVHN", "CIFAR10", "CIFAR100"]
Split = Literal["balanced", "byclass", "bymerge", "letters", "digits", "mnist"]

N_CLASSES = {
    "name": {
        "MNIST": 10,
        "FashionMNIST": 10,
        "KMNIST": 10,
        "EMNIST": {"split": {"balanced": 47, "byclass": 62, "bymerge": 47, "letters": 26, "digits": 10, "mnist": 10}},
        "SVHN": 10,
        "CIFAR10": 10,
        "CIFAR100": 100,
    }
}

MD5: dict[str, dict[str, str]] = {
    "MNIST": {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    "FashionMNIST": {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
}
"""Of unpacked IDX files; torchvision checks the packed ones, and only when it downloads them."""


def vision(name: Name, data_dir: str | float | Path, split: Split | None = None) -> DataSet:
    """Training and test images, uint8 [N, channels, height, width] with values 0 to 255, labels from 0.

    The files lie where torchvision puts them below `data_dir`, are downloaded if one is missing, and are checked before
    every use: by MD5, but for KMNIST and EMNIST, whose IDX files have a published MD5 only as downloaded; of these the
    length is checked. Reading is done once per process.

    Args:
        name: torchvision's name of the data set.
        data_dir: the folder of all data sets.
        split: of EMNIST, and for it alone. Its images, stored transposed, are turned upright.

    Raises:
        InputError: A file is damaged or cannot be read, or is missing and cannot be downloaded.
    """
    check_choice("dataset.name", name, Name)
    if (split is not None) != (name == "EMNIST") or (split is not None and split not in get_args(Split)):
        raise InputError(
            f"dataset.split={split} of {name}: EMNIST has one of {', '.join(get_args(Split))}, others none"
        )
    return _load(name, split, Path(str(data_dir)).expanduser().absolute())


@lru_cache(maxsize=2)
def _load(name: str, split: str | None, root: Path) -> DataSet:
    fetch(name, root, _files(name, split), lambda folder: _download(name, split, folder), _packed(name))
    number = n_classes(N_CLASSES, {"name": name, "split": split})
    assert number is not None
    read = {"SVHN": _svhn, "CIFAR10": _cifar, "CIFAR100": _cifar}.get(name, _idx)
    parts = []
    for train in (True, False):
        images, labels = read(name, split, root, train)
        parts.append(Examples(images, torch.arange(len(images)), labels, scale=255.0))
    return DataSet(train=parts[0], test=parts[1], n_classes=number)


def _files(name: str, split: str | None) -> dict[str, str | None]:
    source = getattr(datasets, name)
    if name == "SVHN":
        return {file: md5 for _, file, md5 in (source.split_list[part] for part in ("train", "test"))}
    if name.startswith("CIFAR"):
        batches = [*source.train_list, *source.test_list, (source.meta["filename"], source.meta["md5"])]
        return {f"{source.base_folder}/{file}": md5 for file, md5 in batches}
    files = [file for train in (True, False) for file in _idx_names(split, train)]
    return {f"{name}/raw/{file}": MD5.get(name, {}).get(file) for file in files}


def _idx_names(split: str | None, train: bool) -> tuple[str, str]:
    """The file of images and that of labels."""
    part = ("train" if train else "t10k") if split is None else f"emnist-{split}-{'train' if train else 'test'}"
    return f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"


def _packed(name: str) -> str | None:
    """Archives that torchvision unpacks instead of downloading them, as a pattern below data_dir."""
    if name == "SVHN":
        return None
    own = {"EMNIST": "EMNIST/raw/gzip.zip"} | {
        cifar: getattr(datasets, cifar).filename for cifar in ("CIFAR10", "CIFAR100")
    }
    return own.get(name, f"{name}/raw/*-ubyte.gz")


def _download(name: str, split: str | None, root: Path) -> None:
    source = getattr(datasets, name)
    if name == "SVHN":
        for part in ("train", "test"):
            source(root, split=part, download=True)
    elif name == "EMNIST":
        source(root, split=split, download=True)
    else:
        source(root, download=True)


def _idx(name: str, split: str | None, root: Path, train: bool) -> tuple[Tensor, Tensor]:
    image_file, label_file = (root / name / "raw" / file for file in _idx_names(split, train))
    try:
        images, labels = read_image_file(str(image_file)), read_label_file(str(label_file))
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:  # torchvision's ways to say it
        raise InputError(f"{image_file} or {label_file.name} is damaged or cut short: delete both") from error
    if len(images) != len(labels):
        raise InputError(f"{image_file} has {len(images)} images, {label_file.name} {len(labels)} labels: delete both")
    if name == "EMNIST":
        images = images.transpose(1, 2).contiguous()
    return images.unsqueeze(1), labels - 1 if split == "letters" else labels


def _cifar(name: str, _: str | None, root: Path, train: bool) -> tuple[Tensor, Tensor]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"dtype\(\): align")  # NumPy 2.4.0 to 2.4.4, of the official pickles
        source = getattr(datasets, name)(root, train=train)
    return torch.from_numpy(source.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(source.targets)


def _svhn(_: str, __: str | None, root: Path, train: bool) -> tuple[Tensor, Tensor]:
    source = datasets.SVHN(root, split="train" if train else "test")
    return torch.from_numpy(np.ascontiguousarray(source.data)), torch.from_numpy(source.labels)
