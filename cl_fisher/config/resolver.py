"""Functions that the YAML files call, such as ${cl_fisher.user_cache:} and ${cl_fisher.cell:NUMBER,NAME}."""

import os
import re
import sys
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

LONGEST = 120  # characters; file systems allow 255 bytes, and a path has several parts


def register_resolvers() -> None:
    """Make the functions known to OmegaConf, once per process; a second call changes nothing."""
    OmegaConf.register_new_resolver("cl_fisher.user_cache", user_cache, replace=True)
    OmegaConf.register_new_resolver("cl_fisher.cell", cell, replace=True)
    OmegaConf.register_new_resolver("cl_fisher.length", length, replace=True)


def user_cache() -> str:
    """The user's own folder for data that can be downloaded again."""
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return str(base / "cl_fisher")


def cell(number: int | str, overrides: str) -> str:
    """The folder name of one cell of a multirun: 003_seed=0,strategy=ewc; the number alone makes it unique."""
    name = re.sub(r"[^\w.,=+\[\]-]+", "_", str(overrides))
    return f"{int(number):03d}_{name}"[:LONGEST].rstrip("_.,")


def length(otherwise: int, *, _root_: DictConfig) -> int:
    """How many tasks a sequence has where nothing is typed: one per data set if the benchmark names its own."""
    datasets = OmegaConf.select(_root_, "benchmark.datasets")
    return len(datasets) if datasets else otherwise
