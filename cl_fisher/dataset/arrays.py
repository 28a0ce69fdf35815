"""Your own arrays: images or vectors in a NumPy file."""

import zlib
from functools import lru_cache
from pathlib import Path
from typing import Literal
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.lib.npyio import NpzFile
from torch import Tensor

from cl_fisher.bounds import check_choice
from cl_fisher.dataset.examples import DataSet, Examples
from cl_fisher.error import InputError

KEYS = ("x_train", "y_train", "x_test", "y_test")
Layout = Literal["auto", "nhwc", "nchw"]
CHANNELS = (1, 3, 4)
WANTED = "an .npz file with " + ", ".join(KEYS) + " is wanted"


def arrays(path: str | float | Path, layout: Layout = "auto") -> DataSet:
    """The arrays x_train, y_train, x_test and y_test of an .npz file.

    x is uint8, which is divided by 255, or float, which is taken as it is. It has grey images [N, H, W], images
    [N, H, W, C] or [N, C, H, W], or vectors [N, D], which stay vectors. y has whole numbers [N], any ones: the values
    that y_train has, sorted, become the labels 0, 1, ... (`DataSet.classes` says which is which). Reading is done once
    per process, unless the file changes. Nothing in the file is unpickled.

    Args:
        path: the file.
        layout: where the channels are; auto: on the axis that has 1, 3 or 4 entries, if only one has.

    Raises:
        InputError: The file is not like this.
    """
    check_choice("dataset.layout", layout, Layout)
    file = Path(str(path)).expanduser().absolute()
    if str(path) == "" or not file.is_file():
        what = "is not a file" if file.exists() else "does not exist"
        raise InputError(f"path={path}: {file} {what}; {WANTED}")
    return _load(file, file.stat().st_mtime_ns, layout)


@lru_cache(maxsize=2)
def _load(file: Path, _: int, layout: Layout) -> DataSet:
    x_train, y_train, x_test, y_test = _arrays(file)
    values = np.unique(y_train)
    if len(values) < 2:
        raise InputError(f"{file}: y_train has one class only ({values[0]}): several are wanted")
    strange = np.setdiff1d(y_test, values)
    if len(strange):
        raise InputError(f"{file}: y_test has class {strange[0]}, which y_train does not have")
    scale = 255.0 if x_train.dtype == np.uint8 else 1.0
    parts = []
    for key, x, y in (("x_train", x_train, y_train), ("x_test", x_test, y_test)):
        inputs = _channels_first(x, layout, f"{file}: {key}")
        parts.append(Examples(inputs, torch.arange(len(inputs)), torch.from_numpy(values.searchsorted(y)), scale))
    train, test = parts
    if train.shape != test.shape or x_train.dtype != x_test.dtype:
        kinds = " and ".join(f"{list(x.shape[1:])} {x.dtype}" for x in (x_train, x_test))
        raise InputError(f"{file}: inputs of x_train and x_test differ ({kinds}): shape and type must be the same")
    return DataSet(train, test, n_classes=len(values), classes=tuple(str(value) for value in values))


def _arrays(file: Path) -> list[np.ndarray]:
    """The four arrays, each checked on its own and x and y against each other."""
    try:
        with file.open("rb") as stream:  # np.load itself leaves a broken file open
            if stream.read(1) not in (b"P", b"\x93"):  # np.load would take it for a pickle
                raise ValueError("no NumPy file")
            stream.seek(0)
            content = np.load(stream, allow_pickle=False)
            if not isinstance(content, NpzFile):
                raise InputError(f"{file} holds a single array: {WANTED}")
            missing = [key for key in KEYS if key not in content]
            if missing:
                raise InputError(f"{file} has no {missing[0]} (it has {', '.join(content) or 'nothing'}): {WANTED}")
            found = [_typed(file, key, content) for key in KEYS]
    except InputError:
        raise
    except (OSError, ValueError, EOFError, BadZipFile, zlib.error) as error:
        raise InputError(f"{file} cannot be read ({str(error).splitlines()[0]}): {WANTED}") from error
    for x, y, part in ((found[0], found[1], "train"), (found[2], found[3], "test")):
        if len(x) != len(y) or len(x) == 0:
            raise InputError(f"{file}: x_{part} has {len(x)} entries and y_{part} {len(y)}; as many are wanted, not 0")
    return found


def _typed(file: Path, key: str, content: NpzFile) -> np.ndarray:
    try:
        array: np.ndarray = content[key]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise InputError(f"{file}: {key} holds Python objects, which are never loaded: numbers are wanted") from error
    return _labels(file, key, array) if key.startswith("y") else _inputs(file, key, array)


def _labels(file: Path, key: str, array: np.ndarray) -> np.ndarray:
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise InputError(f"{file}: {key} is {array.dtype} {list(array.shape)}: whole numbers [N] are wanted")
    return array


def _inputs(file: Path, key: str, array: np.ndarray) -> np.ndarray:
    if not 2 <= array.ndim <= 4 or 0 in array.shape[1:] or (array.dtype != np.uint8 and array.dtype.kind != "f"):
        raise InputError(
            f"{file}: {key} is {array.dtype} {list(array.shape)}: uint8 (divided by 255) or float (taken as it is) is "
            "wanted, [N, H, W], [N, H, W, C], [N, C, H, W] or [N, D]"
        )
    if array.dtype == np.uint8:
        return array
    with np.errstate(over="ignore"):
        single = array.astype(np.float32)
    wrong = np.argwhere(~np.isfinite(single))
    if len(wrong):
        found = array[tuple(wrong[0])]
        raise InputError(f"{file}: {key}{wrong[0].tolist()} is {found}: finite numbers of 32 bits are wanted")
    return single


def _channels_first(x: np.ndarray, layout: Layout, name: str) -> Tensor:
    """[N, C, H, W], or [N, D] as it is."""
    if x.ndim == 3:
        x = x[:, None]
    elif x.ndim == 4:
        first, last = x.shape[1] in CHANNELS, x.shape[3] in CHANNELS
        if layout == "auto" and first == last:
            which = "both" if first else "neither"
            raise InputError(
                f"{name} is {list(x.shape)}: axes 1 and 3 could {which} be the channels (1, 3 or 4 of them); "
                "set dataset.layout=nhwc or nchw"
            )
        if layout == "nhwc" or (layout == "auto" and last):
            x = x.transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(x))
