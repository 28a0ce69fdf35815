"""What can be chosen and set, read from the YAML files and their comments, so that no text about it can go stale."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

LINE = re.compile(r"^(?P<indent> *)(?P<name>[A-Za-z]\w*):(?P<value>(?: [^#\n]*?)?)(?: +# ?(?P<comment>.*))?$")


@dataclass(frozen=True)
class Key:
    """A key of a YAML file as it is typed, with its default and the comment behind it."""

    name: str
    default: str
    comment: str


@dataclass(frozen=True)
class Catalog:
    """The groups, choices and keys of one or more configuration folders; the first folder that has a file wins."""

    folders: tuple[Path, ...]

    @cached_property
    def groups(self) -> dict[str, dict[str, Path]]:
        """Choices and their files by group: {"fisher/estimator": {"exact": Path, ...}, ...}."""
        found: dict[str, dict[str, Path]] = {}
        for folder in self.folders:
            for path in sorted(folder.rglob("*.yaml")):
                group = path.parent.relative_to(folder).as_posix()
                if group != "." and not group.startswith("hydra"):
                    found.setdefault(group, {}).setdefault(path.stem, path)
        return dict(sorted(found.items()))

    @cached_property
    def defaults(self) -> dict[str, str | None]:
        """The choice of each group where nothing is typed."""
        loaded: Any = yaml.safe_load(self._config.read_text(encoding="utf-8"))
        return {
            group: choice for entry in loaded["defaults"] if isinstance(entry, dict) for group, choice in entry.items()
        }

    @cached_property
    def keys(self) -> list[Key]:
        """The keys of config.yaml: seed, epochs, fisher.samples, ..."""
        return read_keys(self._config)

    @property
    def _config(self) -> Path:
        return next(f for f in (folder / "config.yaml" for folder in self.folders) if f.is_file())


def read_keys(path: Path) -> list[Key]:
    """The keys that a YAML file sets, two levels deep; those that steer Hydra are left out."""
    keys: list[Key] = []
    parent = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        match = LINE.match(line)
        if match is None:
            continue
        if not match["indent"]:
            parent = match["name"]
        name = f"{parent}.{match['name']}" if match["indent"] else parent
        value = match["value"].strip()
        if parent not in ("defaults", "hydra") and value:
            keys.append(Key(name, value, (match["comment"] or "").strip()))
    return keys


def description(path: Path) -> str:
    """The first comment line of a YAML file that is neither a directive nor a command line."""
    comments = [line.lstrip("# ") for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    return next((c for c in comments if not c.startswith(("@package", "cl-fisher "))), "")


def in_its_group(path: Path) -> bool:
    """Whether the keys of a YAML file are typed behind its group; a preset's (`@package _global_`) are typed alone."""
    return "@package _global_" not in path.read_text(encoding="utf-8")
