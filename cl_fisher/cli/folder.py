"""Where results go: a new folder, never one that already holds results."""

import os
from datetime import datetime
from pathlib import Path
from typing import Literal

from cl_fisher.error import InputError

RESULTS = ("metrics.json", "multirun.json")


def check(folder: Path | None) -> None:
    """Raise `InputError` unless new results can be written to `folder` (None: to a new one under `outputs`)."""
    path = Path("outputs") if folder is None else folder
    if folder is not None:
        taken = [name for name in RESULTS if (path / name).exists()]
        if taken:
            raise InputError(f"output_dir={path} already holds a run ({taken[0]}): choose another folder")
    existing = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
    if not existing.is_dir():
        raise InputError(f"output_dir={path}: {existing} is not a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"output_dir={path}: {existing} is not writable")


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
