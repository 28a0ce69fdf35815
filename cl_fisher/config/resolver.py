"""Functions that the YAML files call, such as ${cl_fisher.user_cache:} and ${cl_fisher.cell:NUMBER,NAME}."""

import os
import re
import sys
from collections.abc import Sequence
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


def cell(number: int | str, overrides: Sequence[str], hidden: Sequence[str] = ()) -> str:
    """The folder name of one cell of a multirun: 003_strategy=ewc,seed=0; the number alone makes it unique.

    Overrides of the keys in `hidden` are left out; those of the strategy come first, then the seed, as a long name is
    cut.
    """
    shown = sorted((o for o in overrides if _key(o) not in hidden), key=lambda o: (_rank(_key(o)), _key(o)))
    name = re.sub(r"[^\w.,=+\[\]-]+", "_", ",".join(shown))
    return f"{int(number):03d}_{name}"[:LONGEST].rstrip("_.,")


def _key(override: str) -> str:
    return override.partition("=")[0]


def _rank(key: str) -> int:
    first = re.split(r"[.@/]", key.lstrip("+~"))[0]
    return {"strategy": 0, "seed": 1}.get(first, 2)


def length(otherwise: int, *, _root_: DictConfig) -> int:
    """How many tasks a sequence has where nothing is typed: one per data set if the benchmark names its own."""
    datasets = OmegaConf.select(_root_, "benchmark.datasets")
    return len(datasets) if datasets else otherwise
