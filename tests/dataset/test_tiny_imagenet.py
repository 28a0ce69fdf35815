import hashlib
import zipfile

import numpy as np
import pytest
import torch

from cl_fisher.dataset import tiny_imagenet as module
from cl_fisher.dataset.tiny_imagenet import tiny_imagenet

WNIDS = ["n03", "n01", "n02"]  # wnids.txt is not sorted


@pytest.fixture
def files(picture):
    """Three classes of four training and two validation images, each of one value: ten times the class, and its own."""

    def paint(value, shape=(64, 64, 3)):
        return picture(np.full(shape, value, np.uint8), "JPEG")

    found = {"wnids.txt": "\n".join(WNIDS).encode() + b"\n", "words.txt": b""}
    notes = []
    for kind, wnid in enumerate(sorted(WNIDS)):
        found[f"train/{wnid}/{wnid}_boxes.txt"] = b""
        for i in range(4):
            shape = (64, 64) if i == 3 else (64, 64, 3)  # some official images are grey
            found[f"train/{wnid}/images/{wnid}_{i}.JPEG"] = paint(10 * kind + i, shape)
        for i in range(2):
            name = f"val_{2 * (2 - kind) + i}.JPEG"
            found[f"val/images/{name}"] = paint(10 * kind + i)
            notes.append(f"{name}\t{wnid}\t0\t32\t44\t62\n")
    found["val/val_annotations.txt"] = "".join(notes).encode()
    found["test/images/test_0.JPEG"] = paint(250)
    return found


@pytest.fixture
def packed(tmp_path, files, pack, monkeypatch):
    path = tmp_path / "tiny-imagenet-200.zip"
    pack(path, {"tiny-imagenet-200/": b""} | {f"tiny-imagenet-200/{name}": content for name, content in files.items()})
    monkeypatch.setattr(module, "MD5", hashlib.md5(path.read_bytes()).hexdigest())
    return path


@pytest.fixture
def folder(tmp_path, files):
    for name, content in files.items():
        path = tmp_path / "tiny-imagenet-200" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "tiny-imagenet-200"


@pytest.mark.parametrize("form", ["packed", "folder"])
def test_images_and_labels(request, tmp_path, form):
    request.getfixturevalue(form)
    data = tiny_imagenet(tmp_path)
    assert (len(data.train), len(data.test), data.n_classes, data.classes) == (12, 6, 3, tuple(sorted(WNIDS)))
    assert data.train.shape == (3, 64, 64)
    assert data.train.source.dtype == torch.uint8
    for part in (data.train, data.test):
        painted = part.raw(torch.arange(len(part))).float().mean((1, 2, 3)).round().int()
        assert (painted // 10).tolist() == part.targets.tolist()
    assert tiny_imagenet(tmp_path, size=16).test.shape == (3, 16, 16)


def test_damaged_archive(tmp_path, packed, refused):
    packed.write_bytes(packed.read_bytes()[:-1] + b"!")
    refused(lambda: tiny_imagenet(tmp_path), packed, "damaged", "delete it")


@pytest.mark.parametrize("name", ["wnids.txt", "val/val_annotations.txt", "val/images/val_3.JPEG"])
def test_incomplete_folder(tmp_path, folder, refused, name):
    (folder / name).unlink()
    refused(lambda: tiny_imagenet(tmp_path), folder, "not complete", name)


def test_a_class_without_images(tmp_path, folder, refused):
    (folder / "wnids.txt").write_text("\n".join([*WNIDS, "n04"]))
    refused(lambda: tiny_imagenet(tmp_path), "not complete")


def test_missing_without_network(tmp_path, refused):
    refused(lambda: tiny_imagenet(tmp_path), "Tiny ImageNet is not in", "tiny-imagenet-200.zip", "no network")


def test_is_downloaded(tmp_path, packed, monkeypatch):
    content = packed.read_bytes()
    packed.unlink()

    def download(url, root, filename, md5):
        assert url.endswith(filename)
        with open(f"{root}/{filename}", "wb") as file:
            file.write(content)
        assert hashlib.md5(content).hexdigest() == md5

    monkeypatch.setattr(module, "download_url", download)
    assert len(tiny_imagenet(tmp_path).train) == 12
    assert [path.name for path in tmp_path.iterdir()] == [packed.name]
    assert zipfile.is_zipfile(packed)
