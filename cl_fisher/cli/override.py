"""Overrides that Hydra would accept, or complain about at length, though they cannot be meant."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from cl_fisher.cli.catalog import Catalog
from cl_fisher.config.root import SCHEMA
from cl_fisher.config.signature import Signature, signature
from cl_fisher.config.suggest import did_you_mean
from cl_fisher.config.validate import REFERENCE
from cl_fisher.error import InputError

PRESETS = ("experiment", "debug")
"""Groups of which nothing is chosen by default."""


def check_typed(catalog: Catalog, parsed: Sequence[Override], multirun: bool) -> None:
    """Raise `InputError` for an override that is wrong whatever else was typed."""
    for override in parsed:
        key, slashed = override.key_or_group, override.key_or_group.replace(".", "/")
        if slashed != key and slashed in catalog.groups and not isinstance(override.value(), dict):
            right = f"{slashed}={override.get_value_string()}" if not override.is_delete() else f"~{slashed}"
            raise InputError(f"'{override.input_line}': {slashed} is a group; write {right}, with a slash")
        if override.is_delete() and override.package is None and _needed(catalog, key):
            raise InputError(f"'{override.input_line}': a run needs {key}; write {key}=... to change it")
        if override.is_sweep_override() and not multirun:
            value, element = override.get_value_string(), override.get_key_element()
            one_list = "" if key in catalog.groups else f", or write {element}=[{value}] for one list"
            raise InputError(f"'{override.input_line}' gives several values: add -m to run each of them{one_list}")
        if override.is_sweep_override() and key == "output_dir":
            raise InputError(f"'{override.input_line}': output_dir is one folder for the whole multirun")
        if "scenario.name" in _keys(override):
            plain = not (override.is_delete() or isinstance(override.value(), dict))
            right = override.get_value_string() if plain else "NAME"
            raise InputError(f"'{override.input_line}': a scenario is chosen whole; write scenario={right}")
        if key in ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir") and override.value() in (None, ""):
            raise InputError(f"'{override.input_line}': it must name a folder; output_dir=... says where results go")
        if key.startswith("hydra.sweeper.params"):  # which OmegaConf cannot set where it is null
            raise InputError(f"'{override.input_line}': a sweep is written as -m key=value,value")
        if key in catalog.groups:
            _check_group(catalog, override)


def check_read(catalog: Catalog, parsed: Sequence[Override], cfg: DictConfig) -> None:
    """Raise `InputError` for what was added at a top level that nobody reads, such as ++optimzer.lr=1."""
    known = [
        *(signature(SCHEMA[""]) or Signature({})).parameters,
        *(group.partition("/")[0] for group in catalog.groups),
    ]
    for override in parsed:
        added = override.is_add() or override.is_force_add()
        place = override.package or override.key_or_group.replace("/", ".")
        top = place.partition(".")[0]
        if added and top not in (*known, "_global_") and f"${{{top}" not in OmegaConf.to_yaml(cfg):
            near = did_you_mean(top, known)
            raise InputError(f"'{override.input_line}': there is no key '{top}'{near or ', and nothing refers to one'}")


def check_used(parsed: Sequence[Override], benchmark: str, datasets: Sequence[str]) -> None:
    """Raise `InputError` for dataset=... where the benchmark names its data sets itself."""
    for override in parsed:
        if datasets and override.key_or_group == "dataset" and override.package is None:
            right = f"dataset@benchmark.datasets.{datasets[0]}={override.get_value_string()}"
            raise InputError(
                f"'{override.input_line}': benchmark={benchmark} has a data set for each task; write {right}"
            )


def check_repeated(catalog: Catalog, parsed: Sequence[Override], choices: Mapping[str, str]) -> None:
    """Raise `InputError` for an override of an option that the chosen YAML file takes from another key."""
    for override in parsed:
        for key in _keys(override):
            written = _reference(catalog, key.split("."), choices)
            if written is not None:
                group = written.replace(".", "/")
                right = group if group in catalog.groups else written
                raise InputError(f"'{override.input_line}': {key} follows {right}; write {right}=... instead")


def from_preset(catalog: Catalog, parsed: Sequence[Override], choices: Mapping[str, str], message: str) -> str:
    """What to add to a complaint about an option that nobody typed but a preset such as experiment=blurred sets."""
    typed = {key for override in parsed for key in _keys(override)}
    for group in PRESETS:
        path = catalog.groups.get(group, {}).get(choices.get(group, ""))
        options = {} if path is None else yaml.safe_load(path.read_text(encoding="utf-8"))
        for parent, inside in (options if isinstance(options, dict) else {}).items():
            keys = [f"{parent}.{key}" for key in inside] if isinstance(inside, dict) else [parent]
            named = (key for key in keys if re.search(rf"(?<![\w.]){re.escape(key)}\b(?!\.)", message))
            key = next((key for key in named if key not in typed), None)
            if key is not None:
                remedy = f"~{key} takes it out" if "." in key else f"{key}=... changes it"
                return f" ({group}={choices[group]} sets {key}; {remedy})"
    return ""


def _check_group(catalog: Catalog, override: Override) -> None:
    group, value = override.key_or_group, override.value()
    if isinstance(value, list) and catalog.defaults.get(group) is not None:  # not experiment and debug
        names = ",".join(str(v) for v in value)
        several = f"; for a run of each: -m {group}={names}" if "," in names else ""
        first = names.partition(",")[0]
        raise InputError(f"'{override.input_line}': a run has one {group}; write {group}={first}{several}")
    added = override.is_add() or override.is_force_add()
    if added and group in catalog.defaults and override.package is None and not isinstance(value, dict):
        right = f"{group}={override.get_value_string()}"
        raise InputError(f"'{override.input_line}': {group} is there already; write {right}, without +")


def _needed(catalog: Catalog, key: str) -> bool:
    """Whether a run cannot do without a key or group."""
    if key in catalog.groups:
        return catalog.defaults.get(key) is not None
    parent, _, name = key.rpartition(".")
    schema = signature(SCHEMA[parent]) if parent in SCHEMA and parent != "scenario" else None
    return schema is not None and name in schema.parameters


def _keys(override: Override) -> list[str]:
    """The dotted keys that an override sets; those within for strategy={strength:3}."""
    value: Any = override.value()
    return list(_within(override.key_or_group.replace("/", "."), value))


def _within(key: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _within(f"{key}.{name}", part)
    else:
        yield key


def _reference(catalog: Catalog, parts: list[str], choices: Mapping[str, str]) -> str | None:
    """The other key that holds the value of a key, or of one that it lies in; None if it is written at the key."""
    for depth in range(1, len(parts)):
        group = "/".join(parts[:depth])
        path = catalog.groups.get(group, {}).get(choices.get(group, ""))
        options = {} if path is None else yaml.safe_load(path.read_text(encoding="utf-8"))
        value = options.get(parts[depth]) if isinstance(options, dict) else None
        if isinstance(value, str) and (found := REFERENCE.fullmatch(value)):
            return ".".join([found[1], *parts[depth + 1 :]])
    return None
