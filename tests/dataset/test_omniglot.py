import hashlib

import numpy as np
import pytest
import torch
from torchvision import datasets

from cl_fisher.dataset.omniglot import omniglot

ALPHABETS = {"images_background": ["Greek", "Latin"], "images_evaluation": ["Avesta"]}
ORDER = ["Avesta character01", "Avesta character02", "Greek character01", "Greek character02", "Latin character01",
         "Latin character02"]  # fmt: skip


@pytest.fixture
def root(tmp_path, picture, pack, monkeypatch):
    """Three alphabets of two characters; each image is paper with its class and drawer as dots of ink at the left."""
    sums = {}
    for part, alphabets in ALPHABETS.items():
        files = {f"{part}/": b""}
        for alphabet in alphabets:
            for character in (1, 2):
                kind = ORDER.index(f"{alphabet} character{character:02d}")
                for drawer in range(1, 21):
                    image = np.ones((105, 105), bool)
                    image[kind, 0] = image[10 + drawer, 0] = False
                    name = f"{part}/{alphabet}/character{character:02d}/{700 + kind:04d}_{drawer:02d}.png"
                    files[name] = picture(image)
        path = tmp_path / "omniglot-py" / f"{part}.zip"
        pack(path, files)
        sums[part] = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setattr(datasets.Omniglot, "zips_md5", sums)
    return tmp_path


def dots(examples):
    """Class and drawer of each image."""
    images = examples.raw(torch.arange(len(examples)))
    found = (images[:, 0, :, 0] == 0).nonzero()[:, 1].view(-1, 2)
    return found[:, 0].tolist(), (found[:, 1] - 10).tolist()


def test_drawers_are_split_and_characters_are_numbered(root):
    data = omniglot(root, size=None)
    assert data.classes == tuple(ORDER)
    assert (data.n_classes, data.train.shape) == (6, (1, 105, 105))
    for part, drawers in ((data.train, range(1, 16)), (data.test, range(16, 21))):
        kinds, found = dots(part)
        assert kinds == part.targets.tolist()
        assert sorted(zip(kinds, found, strict=True)) == [(kind, drawer) for kind in range(6) for drawer in drawers]
    assert data.train.source.unique().tolist() == [0, 255]


def test_alphabets(root):
    data = omniglot(root, size=None, label="alphabet")
    assert data.classes == ("Avesta", "Greek", "Latin")
    assert [kind // 2 for kind in dots(data.train)[0]] == data.train.targets.tolist()


def test_size(root):
    assert omniglot(root).train.shape == (1, 28, 28)
    assert omniglot(root).train.source.float().mean() > 240, "paper stays white"


def test_it_is_the_two_archives_that_are_checked(root, refused):
    path = root / "omniglot-py" / "images_evaluation.zip"
    path.write_bytes(path.read_bytes() + b"!")
    refused(lambda: omniglot(root), path, "damaged")
    path.unlink()
    refused(lambda: omniglot(root), "images_evaluation.zip of Omniglot is not in", "no network", "omniglot-py is")


def test_torchvision_reads_the_same(root):
    for background in (True, False):
        part = "images_background" if background else "images_evaluation"
        datasets.utils.extract_archive(str(root / "omniglot-py" / f"{part}.zip"))
    images = omniglot(root, size=None).train.source.flatten(1)
    wanted = [np.array(image) for background in (True, False) for image, _ in datasets.Omniglot(root, background)]
    assert images.unique(dim=0).equal(torch.from_numpy(np.stack(wanted)).flatten(1).unique(dim=0))
