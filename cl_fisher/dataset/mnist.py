"""MNIST (LeCun et al. 1998) and Fashion-MNIST (Xiao et al. 2017): found on disk, or downloaded by torchvision."""

import hashlib
import os
import shutil
import socket
from contextlib import suppress
from functools import lru_cache
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import torch
import torchvision
from torchvision.datasets.mnist import read_image_file, read_label_file

from cl_fisher.dataset.examples import DataSet, Examples
from cl_fisher.error import InputError

N_CLASSES = 10
TIMEOUT = 20.0
"""Seconds that a silent server is waited for."""

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
"""Of the unpacked files; torchvision checks the packed ones, and only when it downloads them."""


def mnist(name: Literal["MNIST", "FashionMNIST"], data_dir: str | Path) -> DataSet:
    """60,000 training and 10,000 test images, uint8 [N, 1, 28, 28] with values 0 to 255.

    The four files are looked for in `data_dir`/`name`/raw, downloaded if one is missing, and checked before every use.
    Reading is done once per process.

    Raises:
        InputError: A file is damaged or cannot be read, or is missing and cannot be downloaded.
    """
    if name not in MD5:
        raise InputError(f"dataset.name={name} is unknown: it must be one of {', '.join(MD5)}")
    return _load(name, Path(str(data_dir)).expanduser().absolute() / name / "raw")


@lru_cache(maxsize=len(MD5))
def _load(name: str, folder: Path) -> DataSet:
    missing = [file for file, md5 in MD5[name].items() if not _intact(folder / file, md5)]
    if missing:
        _download(name, folder, missing)
    return DataSet(train=_read(folder, "train"), test=_read(folder, "t10k"), n_classes=N_CLASSES)


def _read(folder: Path, prefix: str) -> Examples:
    images = read_image_file(str(folder / f"{prefix}-images-idx3-ubyte")).unsqueeze(1)
    labels = read_label_file(str(folder / f"{prefix}-labels-idx1-ubyte"))
    return Examples(images, torch.arange(len(images)), labels, scale=255.0)


def _intact(file: Path, md5: str) -> bool:
    """False if there is no such file."""
    try:
        with file.open("rb") as stream:
            found = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}): check data_dir and its permissions") from error
    if found != md5:
        raise InputError(
            f"{file} is damaged, cut short or not the official file (its MD5 is {found}, not {md5}): "
            "delete it, so that it is downloaded again, or replace it"
        )
    return True


def _download(name: str, folder: Path, missing: list[str]) -> None:
    """Let torchvision download into a folder beside, then move whole files, so that no process ever sees half a one."""
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    created: list[Path] = []
    try:
        created += [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder, prefix=".download-") as root:
            raw = Path(root, name, "raw")
            raw.mkdir(parents=True)
            for packed in folder.glob("*-ubyte.gz"):  # torchvision unpacks those that are there already
                shutil.copy(packed, raw)
            getattr(torchvision.datasets, name)(root, download=True)
            for file, md5 in MD5[name].items():
                _intact(raw / file, md5)
                os.replace(raw / file, folder / file)
    except (RuntimeError, OSError, HTTPException) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        what = f"{', '.join(missing)} of {name}" if len(missing) < len(MD5[name]) else name
        raise InputError(
            f"{what} is not in {folder} and could not be downloaded to it ({reason}): put there the unpacked files "
            f"{', '.join(missing)}, set data_dir to where {name}/raw is, or use dataset=digits, which needs no files"
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)
        with suppress(OSError):  # folders that hold something stay: the files, or those of another process
            for path in created:
                path.rmdir()
