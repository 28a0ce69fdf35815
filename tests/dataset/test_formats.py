"""KMNIST, EMNIST, SVHN and CIFAR: small files in the official formats, read and unpacked by torchvision itself.

Their MD5s take the place of the official ones in torchvision's own tables, so every check is made.
"""

import gzip
import hashlib
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat
from torchvision import datasets

from cl_fisher.dataset.vision import N_CLASSES, vision

RNG = np.random.default_rng(0)


def md5(path):
    return hashlib.md5(Path(path).read_bytes()).hexdigest()


def idx(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def pixels(*shape):
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def read(data, part):
    examples = getattr(data, part)
    return examples.raw(torch.arange(len(examples))).numpy(), examples.targets.tolist()


@pytest.fixture
def emnist(tmp_path):
    """The files of one split as they are after unpacking: images transposed, letters counted from 1."""

    def write(split, folder=tmp_path / "EMNIST" / "raw", first=0, packed=False):
        truth = {"train": pixels(4, 28, 28), "test": pixels(3, 28, 28)}
        folder.mkdir(parents=True, exist_ok=True)
        for part, images in truth.items():
            labels = np.arange(first, first + len(images), dtype=np.uint8)
            stored = np.ascontiguousarray(images.transpose(0, 2, 1))
            for kind, content in (("images-idx3", idx(stored)), ("labels-idx1", idx(labels))):
                name = f"emnist-{split}-{part}-{kind}-ubyte"
                (folder / (f"{name}.gz" if packed else name)).write_bytes(gzip.compress(content) if packed else content)
        return truth

    return write


@pytest.mark.parametrize(("split", "first"), [("balanced", 0), ("letters", 1), ("digits", 0)])
def test_emnist_is_turned_upright_and_counted_from_0(tmp_path, emnist, split, first):
    truth = emnist(split, first=first)
    data = vision("EMNIST", tmp_path, split)
    assert data.n_classes == N_CLASSES["name"]["EMNIST"]["split"][split]
    for part in ("train", "test"):
        images, labels = read(data, part)
        assert (images[:, 0] == truth[part]).all()
        assert labels == list(range(len(images)))


def test_emnist_classes_are_torchvisions():
    splits = {name: set(kinds) - {"N/A"} for name, kinds in datasets.EMNIST.classes_split_dict.items()}
    assert N_CLASSES["name"]["EMNIST"]["split"] == {name: len(kinds) for name, kinds in splits.items()}


def test_emnist_is_unpacked_from_its_archive_for_all_splits(tmp_path, emnist, monkeypatch):
    for split in ("balanced", "letters"):
        truth = emnist(split, tmp_path / "gzip", first=int(split == "letters"), packed=True)
    raw = tmp_path / "data" / "EMNIST" / "raw"
    raw.mkdir(parents=True)
    with zipfile.ZipFile(raw / "gzip.zip", "w") as archive:
        for path in (tmp_path / "gzip").iterdir():
            archive.write(path, f"gzip/{path.name}")
    monkeypatch.setattr(datasets.EMNIST, "md5", md5(raw / "gzip.zip"))
    assert (read(vision("EMNIST", tmp_path / "data", "letters"), "test")[0][:, 0] == truth["test"]).all()
    assert len(list(raw.iterdir())) == 1 + 8, "the archive, and the files of both splits"
    (raw / "gzip.zip").unlink()
    assert len(vision("EMNIST", tmp_path / "data", "balanced").train) == 4
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["EMNIST"]


@pytest.mark.parametrize(("name", "split"), [("EMNIST", None), ("EMNIST", "all"), ("MNIST", "letters")])
def test_a_split_belongs_to_emnist(tmp_path, refused, name, split):
    refused(lambda: vision(name, tmp_path, split), f"dataset.split={split}", "balanced")


@pytest.fixture
def kmnist(tmp_path):
    raw = tmp_path / "KMNIST" / "raw"
    raw.mkdir(parents=True)
    for part, n in (("train", 3), ("t10k", 2)):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(idx(pixels(n, 28, 28)))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.arange(n, dtype=np.uint8)))
    return raw


def test_kmnist(tmp_path, kmnist):
    images, labels = read(vision("KMNIST", tmp_path), "train")
    assert images.tobytes() == (kmnist / "train-images-idx3-ubyte").read_bytes()[-3 * 784 :]
    assert labels == [0, 1, 2]


@pytest.mark.parametrize("cut", [0, 3, 20, -1])
@pytest.mark.parametrize("kind", ["images-idx3", "labels-idx1"])
def test_kmnist_cut_short(tmp_path, kmnist, refused, kind, cut):
    file = kmnist / f"t10k-{kind}-ubyte"
    file.write_bytes(file.read_bytes()[: cut if cut < 10 else min(cut, 9)])
    refused(lambda: vision("KMNIST", tmp_path), kmnist / "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte", "damaged")


def test_as_many_images_as_labels(tmp_path, kmnist, refused):
    (kmnist / "t10k-labels-idx1-ubyte").write_bytes(idx(np.arange(5, dtype=np.uint8)))
    refused(lambda: vision("KMNIST", tmp_path), "2 images", "5 labels")


@pytest.fixture
def svhn(tmp_path, monkeypatch):
    """MATLAB files: X [32, 32, 3, N], y [N, 1] with 10 for the digit 0."""
    truth, listed = {}, dict(datasets.SVHN.split_list)
    for part, labels in (("train", [1, 10, 3, 9]), ("test", [10, 2])):
        truth[part] = pixels(len(labels), 3, 32, 32)
        file = f"{part}_32x32.mat"
        savemat(tmp_path / file, {"X": truth[part].transpose(2, 3, 1, 0), "y": np.array(labels, np.uint8)[:, None]})
        listed[part] = [f"http://nowhere/{file}", file, md5(tmp_path / file)]
    monkeypatch.setattr(datasets.SVHN, "split_list", listed)
    return truth


def test_svhn(tmp_path, svhn):
    data = vision("SVHN", tmp_path)
    for part, digits in (("train", [1, 0, 3, 9]), ("test", [0, 2])):
        images, labels = read(data, part)
        assert (images == svhn[part]).all()
        assert labels == digits
    assert data.train.source.is_contiguous()
    assert data.train.source.dtype == torch.uint8


def official(array, labels, key):
    """A batch as the official files have it, written by Python 2 and an old NumPy (here in readable protocol 0)."""
    head = "cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
    state = f"(I1\n(I{len(array)}\nI3072\ntcnumpy\ndtype\n(S'u1'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntbI00\nS"
    raw, items = repr(array.tobytes())[1:], "".join(f"I{label}\na" for label in labels)
    return f"(dS'data'\n{head}{state}{raw}\ntbsS'{key}'\n(l{items}s.".encode()


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    def write(name):
        kind = getattr(datasets, name)
        folder = tmp_path / kind.base_folder
        folder.mkdir()
        key = "labels" if name == "CIFAR10" else "fine_labels"
        truth = {"train": [], "test": []}
        for part, listed in (("train", "train_list"), ("test", "test_list")):
            sums = []
            for i, (file, _) in enumerate(getattr(kind, listed)):
                truth[part].append(pixels(2, 3, 32, 32))
                (folder / file).write_bytes(official(truth[part][-1], [i, 9 - i], key))
                sums.append([file, md5(folder / file)])
            monkeypatch.setattr(kind, listed, sums)
        meta = dict(kind.meta)
        (folder / meta["filename"]).write_bytes(pickle.dumps({meta["key"]: list("abcdefghij")}))
        monkeypatch.setattr(kind, "meta", meta | {"md5": md5(folder / meta["filename"])})
        return {part: np.concatenate(arrays) for part, arrays in truth.items()}, folder

    return write


@pytest.mark.parametrize(("name", "labels"), [("CIFAR10", [0, 9, 1, 8, 2, 7, 3, 6, 4, 5]), ("CIFAR100", [0, 9])])
def test_cifar(tmp_path, cifar, name, labels):
    truth, _ = cifar(name)
    data = vision(name, tmp_path)
    assert data.n_classes == N_CLASSES["name"][name]
    for part, wanted in (("train", labels), ("test", [0, 9])):
        images, found = read(data, part)
        assert (images == truth[part]).all()
        assert found == wanted
    assert data.train.source.is_contiguous()


def test_cifar_is_unpacked_from_its_archive(tmp_path, cifar, monkeypatch):
    truth, folder = cifar("CIFAR10")
    archive = tmp_path / "data" / "cifar-10-python.tar.gz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, folder.name)
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5(archive))
    assert (read(vision("CIFAR10", archive.parent), "test")[0] == truth["test"]).all()
    assert sorted(p.name for p in archive.parent.iterdir()) == [folder.name, archive.name]


def test_a_changed_pickle_is_refused_before_it_is_opened(tmp_path, cifar, refused):
    class Bomb:
        def __reduce__(self):
            return open, (str(tmp_path / "exploded"), "w")

    _, folder = cifar("CIFAR10")
    (folder / "data_batch_3").write_bytes(pickle.dumps(Bomb()))
    refused(lambda: vision("CIFAR10", tmp_path), folder / "data_batch_3", "damaged", "delete it")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("name", "split", "words"),
    [
        ("KMNIST", None, ["KMNIST/raw", "t10k-labels-idx1-ubyte"]),
        ("EMNIST", "letters", ["EMNIST/raw", "emnist-letters-train-images-idx3-ubyte"]),
        ("SVHN", None, ["train_32x32.mat", "test_32x32.mat"]),
        ("CIFAR10", None, ["cifar-10-batches-py", "data_batch_5", "batches.meta"]),
        ("CIFAR100", None, ["cifar-100-python", "train", "meta"]),
    ],
)
def test_missing_without_network_says_what_to_do(tmp_path, refused, name, split, words):
    call = lambda: vision(name, tmp_path / "new", split)  # noqa: E731
    refused(call, f"{name} is not in {tmp_path / 'new'}", "no network", "data_dir", "dataset=digits", *words)
    assert list(tmp_path.iterdir()) == []
