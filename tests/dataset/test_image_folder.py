from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cl_fisher.dataset.image_folder import image_folder
from cl_fisher.error import InputError


def paint(path, value, shape=(5, 4, 3)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(shape, value, np.uint8)).save(path)


@pytest.fixture
def tree(tmp_path):
    """tree(part): three classes of ten images, each of one value: 10 times the class plus the image."""

    def make(part="", classes="abc", n=10, suffix="png"):
        for i, kind in enumerate(classes):
            for j in range(n):
                paint(tmp_path / part / kind / f"{j:02d}.{suffix}", 10 * i + j)
        return tmp_path

    return make


def values(examples):
    """The value that each image was painted with."""
    return examples.raw(torch.arange(len(examples)))[:, 0, 0, 0].tolist()


def test_split_is_stratified_complete_and_the_same_every_time(tree):
    data = image_folder(tree(), size=8)
    assert (len(data.train), len(data.test), data.n_classes, data.classes) == (24, 6, 3, ("a", "b", "c"))
    assert data.train.shape == (3, 8, 8)
    assert data.train.source.dtype == torch.uint8
    assert data.test.targets.bincount().tolist() == [2, 2, 2]
    assert sorted(values(data.train) + values(data.test)) == list(range(30))
    for part in (data.train, data.test):
        assert [value // 10 for value in values(part)] == part.targets.tolist()
    assert values(image_folder(tree(), size=8).test) == values(data.test)
    assert values(image_folder(tree(), size=8, split_seed=1).test) != values(data.test)
    assert len(image_folder(tree(), test_fraction=0.5).test) == 15


@pytest.mark.parametrize("name", ["test", "val"])
def test_a_test_folder_is_taken(tree, name):
    tree("train", n=4)
    data = image_folder(tree(name, n=2), size=8)
    assert values(data.train) == [0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23]
    assert values(data.test) == [0, 1, 10, 11, 20, 21]
    assert data.test.targets.tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(("train", "test"), [("Train", "Test"), ("training", "testing"), ("TRAIN", "validation")])
def test_other_names_of_the_parts_are_no_classes(tree, train, test):
    tree(train)
    data = image_folder(tree(test, n=2), size=8)
    assert (data.classes, len(data.train), len(data.test)) == (("a", "b", "c"), 30, 6)


def test_a_folder_that_is_called_like_an_image_is_a_folder(tree, tmp_path):
    paint(tree() / "a" / "more.png" / "x.png", 7)
    (tmp_path / "b" / "empty.jpg").mkdir()
    data = image_folder(tmp_path)
    assert len(data.train) + len(data.test) == 31


@pytest.mark.parametrize("colour", ["rgb", "grey"])
def test_a_palette_may_be_transparent(tmp_path, colour):
    for kind in "ab":
        for i in range(2):
            paint(tmp_path / kind / f"{i}.png", (40 * i, 80, 120))
    wanted = image_folder(tmp_path, colour=colour)
    for path in tmp_path.rglob("*.png"):
        Image.open(path).quantize(8).save(path, transparency=bytes(range(8)))
    data = image_folder(tmp_path, colour=colour)
    assert torch.equal(data.train.source, wanted.train.source)


def test_test_goes_before_val(tree):
    tree("train"), tree("val", n=2)
    assert len(image_folder(tree("test", n=3)).test) == 9


@pytest.mark.parametrize("suffix", ["jpg", "JPEG", "bmp", "tiff", "webp", "gif"])
def test_other_formats(tree, suffix):
    assert len(image_folder(tree(suffix=suffix)).train) == 24


def test_colour_and_size(tree, tmp_path):
    tree()
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16).repeat(4, 0).repeat(4, 1)
    Image.fromarray(ramp).save(tmp_path / "a" / "99.png")
    grey = image_folder(tmp_path, size=16, colour="grey", test_fraction=0.1)
    assert grey.train.shape == (1, 16, 16)
    everything = torch.cat([part.raw(torch.arange(len(part))) for part in (grey.train, grey.test)])
    widest = everything[everything.flatten(1).float().var(1).argmax(), 0].int()
    assert (widest - torch.arange(256).view(16, 16)).abs()[1:-1, 1:-1].max() <= 2, "upright, in proportion"
    assert image_folder(tmp_path, colour="rgb").train.shape == (3, 32, 32)


def test_pictures_keep_their_axes_and_channels(tmp_path):
    truth = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), dtype=np.uint8)
    for i, array in enumerate(truth):
        (tmp_path / f"{i % 2}").mkdir(exist_ok=True)
        Image.fromarray(array).save(tmp_path / f"{i % 2}" / f"{i}.png")
    data = image_folder(tmp_path, size=None, test_fraction=0.5)
    for part in (data.train, data.test):
        for image in part.raw(torch.arange(len(part))):
            assert any((image.permute(1, 2, 0).numpy() == array).all() for array in truth)


def test_deeper_folders_belong_to_their_class_and_hidden_files_to_nobody(tree, tmp_path):
    tree()
    paint(tmp_path / "a" / "more" / "x.png", 100)
    paint(tmp_path / ".hidden" / "x.png", 100)
    (tmp_path / "a" / "._00.png").write_bytes(b"left by macOS")
    paint(tmp_path / "a" / ".ipynb_checkpoints" / "00-checkpoint.png", 100)
    (tmp_path / "a" / "notes.txt").write_text("no image")
    data = image_folder(tmp_path)
    assert len(data.train) + len(data.test) == 31
    assert data.n_classes == 3


def test_is_read_once_unless_files_change(tree, tmp_path):
    first = image_folder(tree())
    assert image_folder(tmp_path).train.source is first.train.source
    paint(tmp_path / "a" / "new.png", 100)
    assert len(image_folder(tmp_path).train) == len(first.train) + 1


def test_home_folder(tree, tmp_path, monkeypatch):
    tree("pictures")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert image_folder("~/pictures").n_classes == 3


def test_a_folder_may_look_like_a_number(tree, tmp_path, monkeypatch):
    tree("3")
    monkeypatch.chdir(tmp_path)
    assert image_folder(3).n_classes == 3


def break_it(path):
    path.write_bytes(path.read_bytes()[:48])


def sixteen_bits(path):
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(path)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda r: (r / "b" / "03.png").write_text("no image"), ["b/03.png", "broken"]),
        (lambda r: (r / "b" / "03.png").write_bytes(b""), ["b/03.png", "broken"]),
        (lambda r: break_it(r / "b" / "03.png"), ["b/03.png", "broken"]),
        (lambda r: sixteen_bits(r / "b" / "03.png"), ["b/03.png", "8 bits"]),
        (lambda r: (r / "empty").mkdir(), ["empty has no images", ".png"]),
        (lambda r: paint(r / "d" / "0.png", 1), ["d has one image", "two are wanted"]),
        (lambda r: paint(r / "train" / "a" / "0.png", 1), ["neither test nor val", f"root={'{root}'}/train"]),
    ],
)
def test_what_is_wrong_is_named(tree, tmp_path, refused, harm, words):
    harm(tree())
    refused(lambda: image_folder(tmp_path), *[word.format(root=tmp_path) for word in words])


@pytest.mark.parametrize(
    ("test", "words"),
    [("abcd", ["class d is in", "test, but not in"]), ("ab", ["class c is in", "train, but not in"])],
)
def test_classes_of_both_parts_are_the_same(tree, refused, test, words):
    tree("train")
    root = tree("test", classes=test)
    refused(lambda: image_folder(root), *words)


def test_sizes_that_differ(tree, tmp_path, refused):
    paint(tree() / "b" / "odd.png", 3, (7, 9, 3))
    refused(lambda: image_folder(tmp_path, size=None), "b/odd.png", "4x5 and 9x7 pixels", "dataset.size")


def test_sizes_of_the_parts_that_differ(tree, tmp_path, refused):
    tree("train")
    for kind in "abc":
        paint(tmp_path / "test" / kind / "0.png", 3, (7, 9, 3))
    refused(lambda: image_folder(tmp_path, size=None), "4x5 and 9x7 pixels", "dataset.size")


def test_folders_that_are_none(tree, tmp_path, refused):
    refused(lambda: image_folder(tmp_path / "nowhere"), "nowhere does not exist")
    refused(lambda: image_folder(tmp_path), "no folders with images")
    refused(lambda: image_folder(""), "root= is empty")
    tree(classes="a")
    refused(lambda: image_folder(tmp_path), "one class only (a)")
    refused(lambda: image_folder(tmp_path / "a" / "00.png"), "is not a folder")


@pytest.mark.parametrize("option", [{"size": 0}, {"test_fraction": 0.0}, {"test_fraction": 1.0}, {"split_seed": -1}])
def test_options_have_bounds(tree, option):
    with pytest.raises(InputError, match=next(iter(option))):
        image_folder(tree(), **option)


def test_permissions(tree, monkeypatch, refused):
    """By patching, since root may read everything."""

    def refuse(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied", "somewhere")

    root = tree()
    for method, words in (
        ("read_bytes", "00.png cannot"),
        ("rglob", "somewhere cannot"),
        ("iterdir", "somewhere cannot"),
    ):
        monkeypatch.setattr(Path, method, refuse)
        refused(lambda: image_folder(root), f"{words} be read: Permission denied")
