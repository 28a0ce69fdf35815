import gzip
import hashlib
import os
import struct
from pathlib import Path

import pytest
import torch
import torchvision.datasets

from cl_fisher.dataset.vision import MD5, vision
from cl_fisher.error import InputError

FILES = list(MD5["MNIST"])
REAL = os.environ.get("CL_FISHER_DATA")
SIZES = {"train": 5, "t10k": 3}


def idx(array: torch.Tensor) -> bytes:
    return struct.pack(f">BBBB{array.dim()}I", 0, 0, 8, array.dim(), *array.shape) + array.numpy().tobytes()


@pytest.fixture
def contents(monkeypatch) -> dict[str, bytes]:
    """Small stand-ins for the four files, and their checksums where the loader looks them up."""
    draw = torch.Generator().manual_seed(0)
    contents = {}
    for prefix, n in SIZES.items():
        images = torch.randint(0, 256, (n, 28, 28), dtype=torch.uint8, generator=draw)
        contents[f"{prefix}-images-idx3-ubyte"] = idx(images)
        contents[f"{prefix}-labels-idx1-ubyte"] = idx(torch.arange(n, dtype=torch.uint8))
    sums = {file: hashlib.md5(content).hexdigest() for file, content in contents.items()}
    monkeypatch.setitem(MD5, "MNIST", sums)
    return contents


@pytest.fixture
def raw(tmp_path, contents) -> Path:
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for file, content in contents.items():
        (folder / file).write_bytes(content)
    return folder


def one_line(error: pytest.ExceptionInfo) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def test_reads_small_files(tmp_path, raw, contents):
    data = vision("MNIST", tmp_path)
    assert (len(data.train), len(data.test), data.n_classes) == (5, 3, 10)
    assert data.train.source.dtype == torch.uint8
    assert data.train.shape == (1, 28, 28)
    assert data.test.raw(torch.tensor([2])).numpy().tobytes() == contents["t10k-images-idx3-ubyte"][-784:]
    assert data.train.targets.tolist() == [0, 1, 2, 3, 4]
    assert data.train.inputs(torch.arange(5)).max() <= 1
    assert [path.name for path in raw.iterdir() if path.name not in contents] == []


@pytest.mark.usefixtures("raw")
def test_is_read_once_per_process(tmp_path):
    assert vision("MNIST", tmp_path) is vision("MNIST", str(tmp_path))


@pytest.mark.usefixtures("raw")
def test_legacy_copies_of_old_torchvision_are_not_trusted(tmp_path):
    processed = tmp_path / "MNIST" / "processed"
    processed.mkdir()
    for file in ("training.pt", "test.pt"):
        torch.save((torch.zeros(1, 28, 28, dtype=torch.uint8), torch.zeros(1)), processed / file)
    assert len(vision("MNIST", tmp_path).train) == 5


def damage(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1] + b"!")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


@pytest.mark.parametrize("harm", [damage, cut, lambda file: file.write_bytes(b"")])
@pytest.mark.parametrize("file", FILES)
def test_damaged_file_is_refused_by_name(tmp_path, raw, file, harm):
    harm(raw / file)
    with pytest.raises(InputError, match="delete it") as error:
        vision("MNIST", tmp_path)
    assert str(raw / file) in one_line(error)


@pytest.mark.parametrize("name", list(MD5))
def test_missing_without_network_is_one_line_that_says_what_to_do(tmp_path, capfd, name):
    with pytest.raises(InputError) as error:
        vision(name, tmp_path / "new")
    message = one_line(error)
    for wanted in [*FILES, str(tmp_path / "new" / name / "raw"), "dataset=digits", "no network"]:
        assert wanted in message
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == [], "a failed download leaves nothing behind"


@pytest.mark.parametrize("file", FILES)
def test_one_missing_file_is_named(tmp_path, raw, file):
    (raw / file).unlink()
    with pytest.raises(InputError, match=f"^{file} of MNIST is not in") as error:
        vision("MNIST", tmp_path)
    assert not [other for other in FILES if other != file and other in one_line(error)]
    assert len(list(raw.iterdir())) == 3


@pytest.mark.usefixtures("raw")
def test_a_folder_may_look_like_a_number(tmp_path, monkeypatch):
    (tmp_path / "MNIST").rename((tmp_path / "3").mkdir() or tmp_path / "3" / "MNIST")
    monkeypatch.chdir(tmp_path)
    assert len(vision("MNIST", 3).train) == 5


def test_packed_files_are_unpacked_without_network(tmp_path, contents, monkeypatch):
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for file, content in contents.items():
        (folder / f"{file}.gz").write_bytes(gzip.compress(content))
    resources = [(f"{f}.gz", hashlib.md5((folder / f"{f}.gz").read_bytes()).hexdigest()) for f in contents]
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", resources)
    assert len(vision("MNIST", tmp_path).train) == 5


def fake_download(contents, count):
    def download(url, download_root, filename, md5):  # noqa: ARG001
        Path(download_root, filename.removesuffix(".gz")).write_bytes(contents[filename.removesuffix(".gz")])
        count.append(url)

    return download


def test_missing_file_is_downloaded(tmp_path, raw, contents, monkeypatch):
    (raw / FILES[2]).unlink()
    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", fake_download(contents, count := []))
    assert len(vision("MNIST", tmp_path).test) == 3
    assert len(count) == 4
    assert sorted(path.name for path in raw.iterdir()) == sorted(FILES)


def test_interrupted_download_leaves_no_half_file(tmp_path, raw, contents, monkeypatch):
    def interrupted(url, download_root, filename, md5):  # noqa: ARG001
        file = filename.removesuffix(".gz")
        Path(download_root, file).write_bytes(contents[file][:-5])
        if file == FILES[3]:
            raise KeyboardInterrupt

    for file in FILES:
        (raw / file).unlink()
    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", interrupted)
    with pytest.raises(KeyboardInterrupt):
        vision("MNIST", tmp_path)
    assert list(raw.iterdir()) == []


def test_what_was_downloaded_is_checked_too(tmp_path, raw, contents, monkeypatch):
    for file in FILES:
        (raw / file).unlink()
    wrong = contents | {FILES[0]: contents[FILES[0]][:-1] + b"!"}
    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", fake_download(wrong, []))
    with pytest.raises(InputError, match="damaged"):
        vision("MNIST", tmp_path)
    assert list(raw.iterdir()) == []


def test_unknown_name():
    with pytest.raises(InputError, match="MNIST, FashionMNIST"):
        vision("QMNIST", "anywhere")


def test_data_dir_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="data_dir") as error:
        vision("MNIST", tmp_path / "file")
    assert "Not a directory" in one_line(error)


@pytest.mark.parametrize(("what", "words"), [("read", "cannot be read"), ("write", "could not be downloaded")])
def test_permissions(tmp_path, raw, monkeypatch, what, words):
    """By patching, since root may read and write everything."""

    def refuse(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    if what == "read":
        monkeypatch.setattr(Path, "open", refuse)
    else:
        (raw / FILES[0]).unlink()
        monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(InputError, match=words) as error:
        vision("MNIST", tmp_path)
    assert "Permission denied" in one_line(error)


@pytest.mark.skipif(REAL is None, reason="CL_FISHER_DATA is not set")
@pytest.mark.parametrize("name", list(MD5))
def test_real_files(name):
    assert REAL is not None
    if not Path(REAL, name, "raw").is_dir():
        pytest.skip(f"{name} is not in CL_FISHER_DATA")
    data = vision(name, REAL)
    assert (len(data.train), len(data.test)) == (60000, 10000)
    assert data.train.targets.bincount().min() > 5000
    official = getattr(torchvision.datasets, name)(REAL, train=False, download=False)
    assert data.test.source[:, 0].equal(official.data)
    assert data.test.targets.equal(official.targets)
