"""Where results go: a new folder, never one that already holds results."""

from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from cl_fisher.error import InputError

RESULTS = ("metrics.json", "multirun.json")


def check(folder: Path | None) -> None:
    """Raise `InputError` unless new results can be written to `folder` (None: to a new one under `outputs`)."""
    if folder is None:
        check_writable(Path("outputs"), "results go to outputs, or to output_dir=...")
        return
    check_writable(folder, f"output_dir={folder}")
    taken = [name for name in RESULTS if (folder / name).exists()]
    if taken:
        raise InputError(f"output_dir={folder} already holds a run ({taken[0]}): choose another folder")


def check_writable(folder: Path, name: str) -> None:
    """Raise `InputError`, beginning with `name`, unless `folder` is there or can be made, and can be written to.

    A folder is made and removed again where it would lie: permissions alone do not tell.
    """
    try:
        existing = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
        if not existing.is_dir():
            raise InputError(f"{name}: {existing} is not a folder")
        TemporaryDirectory(prefix=".cl_fisher-", dir=existing).cleanup()
    except OSError as error:
        raise InputError(f"{name}: {folder.absolute()} is not writable ({error.strerror})") from error


def reserve(folder: Path | None, kind: Literal["run", "multirun"]) -> Path:
    """Make the folder and return its absolute path; None: outputs/KIND/DATE/TIME, which no other job can get too."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        return folder.absolute()
    now = datetime.now()
    day = Path("outputs", kind, f"{now:%Y-%m-%d}").absolute()
    day.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        path = day / (f"{now:%H-%M-%S}" if number == 1 else f"{now:%H-%M-%S}_{number}")
        try:
            path.mkdir()
        except FileExistsError:
            number += 1
        else:
            return path
