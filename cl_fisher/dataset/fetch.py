"""Files of published data sets: checked before every use, and downloaded where they are missing."""

import hashlib
import os
import shutil
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory

from cl_fisher.error import InputError

TIMEOUT = 20.0
"""Seconds that a silent server is waited for."""


def fetch(
    name: str,
    root: Path,
    files: Mapping[str, str | None],
    download: Callable[[Path], object],
    packed: str | None = None,
) -> None:
    """Make sure that these files lie in `root` and are what they should be.

    Args:
        name: of the data set, for messages.
        root: the folder of all data sets.
        files: paths below `root`, with their MD5 (None: not known; the download itself is checked by torchvision).
        download: puts the files into a folder that stands for `root`.
        packed: a pattern below `root` of archives that `download` takes instead of a download, and may leave behind.

    Raises:
        InputError: A file is damaged or cannot be read, or is missing and cannot be downloaded.
    """
    missing = [file for file, md5 in files.items() if not _intact(root / file, md5)]
    if not missing:
        return
    folder = Path(os.path.commonpath([str(Path(file).parent) for file in files]))
    try:
        _download(root, files, download, packed)
    except (RuntimeError, OSError, HTTPException) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        names = ", ".join(Path(file).relative_to(folder).as_posix() for file in missing)
        what = f"{names} of {name}" if len(missing) < len(files) else name
        instead = f" (or {root / packed})" if packed else ""
        below = "they are" if folder == Path() else f"{folder.as_posix()} is"
        raise InputError(
            f"{what} is not in {root / folder} and could not be downloaded to it ({reason}): "
            f"put there {names}{instead}, set data_dir to where {below}, or use dataset=digits, which needs no files"
        ) from error


def _intact(file: Path, md5: str | None) -> bool:
    """False if there is no such file."""
    try:
        with file.open("rb") as stream:
            found = md5 and hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}): check data_dir and its permissions") from error
    if found != md5:
        raise InputError(
            f"{file} is damaged, cut short or not the official file (its MD5 is {found}, not {md5}): "
            "delete it, so that it is downloaded again, or replace it"
        )
    return True


def _download(
    root: Path, files: Mapping[str, str | None], download: Callable[[Path], object], packed: str | None
) -> None:
    """Download into a folder beside, then move whole files, so that no process ever sees half a one."""
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    created = sorted({p for file in files for p in (root / file).parents if not p.exists()}, reverse=True)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=root, prefix=".download-") as temporary:
            staging = Path(temporary)
            for archive in root.glob(packed) if packed else ():
                copy = staging / archive.relative_to(root)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(archive, copy)
            download(staging)
            for file, md5 in files.items():
                if not _intact(staging / file, md5):
                    raise RuntimeError(f"{file} was not in what was downloaded")
            archives = set(staging.glob(packed)) if packed else set()
            for path in [p for p in staging.rglob("*") if p.is_file() and p not in archives]:
                place = root / path.relative_to(staging)
                place.parent.mkdir(parents=True, exist_ok=True)
                os.replace(path, place)
    finally:
        socket.setdefaulttimeout(timeout)
        for path in created:
            with suppress(OSError):  # folders that hold something stay: the files, or those of another process
                path.rmdir()
