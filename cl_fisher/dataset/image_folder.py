"""Your own images, sorted into a folder for each class."""

from functools import lru_cache
from pathlib import Path

import torch

from cl_fisher.bounds import Count, Fraction, Index, checked
from cl_fisher.dataset.examples import DataSet, Examples
from cl_fisher.dataset.image import SUFFIXES, Colour, is_image, read_images
from cl_fisher.dataset.stratified import stratified
from cl_fisher.error import InputError
from cl_fisher.seeding import generator

Files = tuple[tuple[str, str, int], ...]
"""Path, class and time of the last change of each image."""
TRAIN = ("train", "training")
TEST = ("test", "testing", "val", "valid", "validation")
"""What folders of the two parts are called, upper case or lower; of several the first counts."""


@checked
def image_folder(
    root: str | float | Path,
    size: Count | None = 32,
    colour: Colour = "rgb",
    test_fraction: Fraction = 0.2,
    split_seed: Index = 0,
) -> DataSet:
    """Images of `root`/CLASS/..., or of `root`/train/CLASS/... and `root`/test/CLASS/...; uint8 [N, 3 or 1, H, W].

    Classes are numbered in the alphabetical order of their folders (`DataSet.classes`); what lies in folders below them
    belongs to them too, links to further folders aside. train and test may also have another name of `TRAIN` and
    `TEST`. Reading is done once per process, unless files change.

    Args:
        root: the folder.
        size: images are resized to size x size pixels; None: they have the same size already.
        colour: what images are converted to.
        test_fraction: of each class, where there is no test folder; at least one image.
        split_seed: of this split; not the run's, so that all runs are judged on the same images.

    Raises:
        InputError: No such folder, no images, one class, an image that is broken, or a class that is not in both parts.
    """
    folder = _existing(root)
    parts = _parts(folder)
    listed = [_listed(part) for part in parts]
    classes = tuple(sorted({kind for _, kind, _ in listed[0]}))
    if len(classes) < 2:
        raise InputError(
            f"{parts[0]} has one class only ({classes[0]}): a folder for each of several classes is wanted"
        )
    if len(parts) == 2:
        _check_same(parts, listed)
        train, test = (_read(files, classes, size, colour) for files in listed)
    else:
        train, test = _split(_read(listed[0], classes, size, colour), classes, folder, test_fraction, split_seed)
    if train.shape != test.shape:
        shapes = " and ".join(f"{part.shape[2]}x{part.shape[1]}" for part in (train, test))
        raise InputError(f"{folder}: training and test images have {shapes} pixels: set dataset.size=... to resize all")
    return DataSet(train, test, n_classes=len(classes), classes=classes)


def _existing(root: str | float | Path) -> Path:
    if str(root) == "":
        raise InputError("root= is empty: it must name a folder")
    folder = Path(str(root)).expanduser().absolute()
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise InputError(f"root={root}: {folder} {what}; wanted is a folder with a folder of images for each class")
    return folder


def _parts(folder: Path) -> list[Path]:
    """The folder itself, or its training and test folders."""
    try:
        below = {path.name.lower(): path for path in sorted(folder.iterdir()) if path.is_dir()}
        train, test = (next((below[name] for name in names if name in below), None) for names in (TRAIN, TEST))
        if train is None or (test is None and not any(path.is_dir() for path in train.iterdir())):
            return [folder]
    except OSError as error:
        raise InputError(f"{error.filename} cannot be read: {error.strerror}") from error
    if test is None:
        raise InputError(
            f"{folder} has a folder {train.name}, but neither test nor val: add one, or write root={train}"
        )
    return [train, test]


def _listed(folder: Path) -> Files:
    """The images of each class, in a fixed order."""
    found: list[tuple[str, str, int]] = []
    try:
        for kind in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
            named = (path for path in kind.rglob("*") if is_image(path.relative_to(kind).as_posix()))
            files = sorted(path for path in named if not path.is_dir())
            if not files:
                raise InputError(f"{kind} has no images; their names end in {', '.join(SUFFIXES)}")
            found += [(str(path), kind.name, path.stat().st_mtime_ns) for path in files]
    except OSError as error:
        raise InputError(f"{error.filename} cannot be read: {error.strerror}") from error
    if not found:
        raise InputError(
            f"{folder} has no folders with images: wanted are {folder / 'CLASS' / 'NAME.png'} and the like"
        )
    return tuple(found)


def _check_same(parts: list[Path], listed: list[Files]) -> None:
    """The same classes in both parts."""
    train, test = ({kind for _, kind, _ in files} for files in listed)
    if train != test:
        kind = min(train ^ test)
        there, absent = parts if kind in train else parts[::-1]
        raise InputError(f"class {kind} is in {there}, but not in {absent}: both need the same classes")


@lru_cache(maxsize=2)
def _read(files: Files, classes: tuple[str, ...], size: int | None, colour: Colour) -> Examples:
    images = read_images([name for name, _, _ in files], lambda name: Path(name).read_bytes(), size, colour)
    targets = torch.tensor([classes.index(kind) for _, kind, _ in files])
    return Examples(images, torch.arange(len(images)), targets, scale=255.0)


def _split(
    everything: Examples, classes: tuple[str, ...], folder: Path, fraction: float, seed: int
) -> tuple[Examples, Examples]:
    if fraction == 0:
        raise InputError(f"dataset.test_fraction=0: {folder} has no test folder, so a share of the images is needed")
    counts = everything.targets.bincount()
    if counts.min() < 2:
        kind = classes[int(counts.argmin())]
        raise InputError(f"{folder / kind} has one image: two are wanted, one to train on and one to test on")
    tested = stratified(everything.targets, fraction, generator(seed, "test"))
    return everything.subset((~tested).nonzero().flatten()), everything.subset(tested.nonzero().flatten())
