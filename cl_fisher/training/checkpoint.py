"""A stream's state on disk: written whole or not at all, read without running code from the file."""

import os
import random
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from cl_fisher.error import InputError

Keep = Literal["last", "all", "none"]
"""What stays on disk: the last task end, every one, or none."""


def save(directory: Path, task: int, state: dict[str, Any], keep: Keep) -> None:
    """Write `checkpoints/task_<n>.pt`; with keep="last" the one before is then removed."""
    if keep == "none":
        return
    directory.mkdir(parents=True, exist_ok=True)
    target = directory / f"task_{task:03d}.pt"
    torch.save(state, target.with_suffix(".tmp"))
    os.replace(target.with_suffix(".tmp"), target)
    if keep == "last":
        for old in directory.glob("task_*.pt"):
            if old != target:
                old.unlink()


def load(path: Path) -> dict[str, Any]:
    """Read a state; tensors and plain containers only."""
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint")
    return torch.load(path, map_location="cpu", weights_only=True)


def latest(directory: Path) -> Path:
    """The checkpoint of the last task that was finished."""
    found = sorted(directory.glob("task_*.pt"))
    if not found:
        raise InputError(f"{directory}: no checkpoint to go on from")
    return found[-1]


def random_state() -> dict[str, Any]:
    """The states of every global random generator that training may draw from."""
    name, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002 - user code may use it
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.asarray(keys, dtype=np.int64)), position, has_gauss, gauss),
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Undo `random_state`."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002


def seed_everything(seed: int) -> None:
    """Seed every global random generator."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
