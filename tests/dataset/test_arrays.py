import os
from pathlib import Path

import numpy as np
import pytest
import torch

from cl_fisher.dataset.arrays import arrays
from cl_fisher.error import InputError

RNG = np.random.default_rng(0)
REAL = os.environ.get("CL_FISHER_DATA")


@pytest.fixture
def write(tmp_path):
    """write(x_train=..., ...): the path of a file in which these replace what would be right; None leaves one out."""

    def make(shape=(4, 4), dtype=np.uint8, **changes):
        content = {"y_train": np.arange(6) % 3, "y_test": np.arange(3)}
        for key, n in (("x_train", 6), ("x_test", 3)):
            content[key] = RNG.integers(0, 256, (n, *shape)).astype(dtype)
        content |= changes
        path = tmp_path / "data.npz"
        np.savez(path, **{key: value for key, value in content.items() if value is not None})
        os.utime(path, ns=(0, make.time))  # each call counts as a change, however fast
        make.time += 1
        return path

    make.time = 1
    return make


def raw(examples):
    return examples.raw(torch.arange(len(examples))).numpy()


@pytest.mark.parametrize(
    ("shape", "layout", "axes"),
    [
        ((5, 6), "auto", None),
        ((5, 6, 3), "auto", (2, 0, 1)),
        ((5, 6, 1), "auto", (2, 0, 1)),
        ((3, 5, 6), "auto", (0, 1, 2)),
        ((4, 5, 6), "auto", (0, 1, 2)),
        ((3, 5, 3), "nchw", (0, 1, 2)),
        ((3, 5, 3), "nhwc", (2, 0, 1)),
        ((7, 5, 6), "nhwc", (2, 0, 1)),
        ((7,), "auto", (0,)),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, np.float16])
def test_shapes_and_types(write, shape, layout, axes, dtype):
    path = write(shape, dtype)
    data = arrays(path, layout)
    with np.load(path) as content:
        wanted = content["x_train"]
    wanted = wanted[:, None] if axes is None else wanted.transpose(0, *[1 + axis for axis in axes])
    assert (raw(data.train) == wanted).all()
    assert data.train.shape == wanted.shape[1:]
    assert data.train.source.dtype == (torch.uint8 if dtype == np.uint8 else torch.float32)
    inputs = data.train.inputs(torch.arange(6))
    divided = wanted.astype(np.float32) / (255 if dtype == np.uint8 else 1)
    assert inputs.dtype == torch.float32
    torch.testing.assert_close(inputs, torch.from_numpy(np.ascontiguousarray(divided)), rtol=0, atol=0)
    assert (raw(data.train) == wanted).all(), "the source is not written to"


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.int16])
def test_labels_of_any_values_are_numbered_in_order(write, dtype):
    labels = np.array([70, 7, 9, 70, 7, 9], dtype)
    data = arrays(write(y_train=labels, y_test=labels[:3, None]))
    assert data.train.targets.tolist() == [2, 0, 1, 2, 0, 1]
    assert data.test.targets.tolist() == [2, 0, 1]
    assert data.train.targets.dtype == torch.int64
    assert (data.n_classes, data.classes) == (3, ("7", "9", "70"))
    assert arrays(write(y_train=np.array([-5, 3] * 3), y_test=np.array([3, 3, -5]))).test.targets.tolist() == [1, 1, 0]


def test_is_read_once_unless_the_file_changes(write):
    path = write()
    first = arrays(path)
    assert arrays(str(path)) is first
    write()
    assert arrays(path) is not first


def test_home_folder(write, monkeypatch):
    monkeypatch.setenv("HOME", str(write().parent))
    assert arrays("~/data.npz").n_classes == 3


FLOAT = np.zeros((6, 4, 4))


def with_value(value):
    array = FLOAT.copy()
    array[2, 1, 3] = value
    return array


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"x_train": None}, ["no x_train", "it has y_train, y_test, x_test"]),
        ({"y_test": None}, ["no y_test"]),
        ({"y_train": np.arange(5) % 3}, ["x_train has 6 entries and y_train 5"]),
        ({"y_test": np.arange(4) % 3}, ["x_test has 3 entries and y_test 4"]),
        ({"x_test": np.zeros((0, 4, 4), np.uint8), "y_test": np.zeros(0, int)}, ["x_test has 0 entries"]),
        ({"y_train": np.arange(6) / 2}, ["y_train is float64 [6]", "whole numbers"]),
        ({"y_train": np.array(list("abcabc"))}, ["y_train", "whole numbers"]),
        ({"y_train": np.eye(6, dtype=int)}, ["y_train is int64 [6, 6]"]),
        ({"y_test": np.array([0, 1, 8])}, ["y_test has class 8, which y_train does not have"]),
        ({"y_train": np.ones(6, int), "y_test": np.ones(3, int)}, ["one class only (1)"]),
        ({"x_train": with_value(np.nan), "x_test": FLOAT[:3]}, ["x_train[2, 1, 3] is nan"]),
        ({"x_train": with_value(np.inf), "x_test": FLOAT[:3]}, ["x_train[2, 1, 3] is inf"]),
        ({"x_train": with_value(1e300), "x_test": FLOAT[:3]}, ["x_train[2, 1, 3] is 1e+300"]),
        ({"x_train": FLOAT}, ["x_train and x_test differ", "[4, 4] float32 and [4, 4] uint8"]),
        ({"x_test": np.zeros((3, 4, 5), np.uint8)}, ["x_train and x_test differ", "[4, 4] uint8 and [4, 5] uint8"]),
        ({"x_train": FLOAT.astype(int)}, ["x_train is int64 [6, 4, 4]", "uint8"]),
        ({"x_train": FLOAT[..., None, None]}, ["x_train is float64 [6, 4, 4, 1, 1]"]),
        ({"x_train": np.zeros(6)}, ["x_train is float64 [6]"]),
        ({"x_train": np.array([None] * 6)}, ["x_train holds Python objects", "never loaded"]),
        ({"y_train": np.array([object()] * 6)}, ["y_train holds Python objects"]),
        ({"x_train": np.zeros((6, 3, 5, 3), np.uint8)}, ["x_train is [6, 3, 5, 3]", "both", "dataset.layout"]),
        ({"x_train": np.zeros((6, 7, 5, 7), np.uint8)}, ["x_train is [6, 7, 5, 7]", "neither", "dataset.layout"]),
    ],
)
def test_what_is_wrong_is_said(write, refused, changes, words):
    path = write(**changes)
    refused(lambda: arrays(path), path, *words)


def test_objects_are_never_unpickled(write, tmp_path, refused):
    class Bomb:
        def __reduce__(self):
            return open, (str(tmp_path / "exploded"), "w")

    path = write(y_test=np.array([Bomb()] * 3))
    refused(lambda: arrays(path), "y_test holds Python objects")
    assert not (tmp_path / "exploded").exists()


def cut(path):
    path.write_bytes(path.read_bytes()[:-40])


def damage(path):
    content = bytearray(path.read_bytes())
    content[200] ^= 255
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [cut, damage, lambda p: p.write_text("x"), lambda p: p.write_bytes(b"")])
def test_files_that_cannot_be_read(write, refused, harm):
    harm(path := write())
    refused(lambda: arrays(path), path, "cannot be read", "x_train, y_train, x_test, y_test")


def test_a_file_of_another_kind_is_not_called_a_pickle(write, refused):
    (path := write()).write_text("x,y\n1,2\n")
    refused(lambda: arrays(path), "cannot be read (no NumPy file): an .npz file with x_train")


def test_paths_that_are_no_such_file(tmp_path, refused):
    np.save(tmp_path / "one.npy", np.zeros(3))
    refused(lambda: arrays(tmp_path / "one.npy"), "holds a single array")
    refused(lambda: arrays(tmp_path / "nowhere.npz"), "does not exist")
    refused(lambda: arrays(tmp_path), "is not a file")
    refused(lambda: arrays(""), "path=")
    with pytest.raises(InputError, match="nhcw is unknown"):
        arrays(tmp_path, "nhcw")


@pytest.mark.skipif(REAL is None, reason="CL_FISHER_DATA is not set")
def test_real_file():
    assert REAL is not None
    path = Path(REAL, "cifar10_jpeg_12k.npz")
    if not path.is_file():
        pytest.skip(f"{path.name} is not in CL_FISHER_DATA")
    data = arrays(path)
    assert (len(data.train), len(data.test), data.n_classes) == (10000, 2000, 10)
    assert data.train.shape == (3, 32, 32)
    with np.load(path) as content:
        assert (raw(data.test).transpose(0, 2, 3, 1) == content["x_test"]).all()
        assert (data.test.targets.numpy() == content["y_test"]).all()
