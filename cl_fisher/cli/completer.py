"""What the tab key offers."""

import argparse
from pathlib import Path
from typing import Any

from argcomplete.finders import CompletionFinder

from cl_fisher.cli.catalog import Catalog, in_its_group, read_keys
from cl_fisher.config import conf_dir
from cl_fisher.config.annotation import allowed
from cl_fisher.config.root import SCHEMA
from cl_fisher.config.signature import signature
from cl_fisher.config.validate import REFERENCE

SWITCHES = {"-m", "--multirun", "-q", "--quiet", "-v", "--verbose", "--resolve", "-r", "--run"}


class Finder(CompletionFinder):
    """Offers overrides behind a flag too: argparse itself wants all of them in one place."""

    def _get_completions(self, comp_words: list[str], *rest: Any) -> list[str]:
        return super()._get_completions([w for w in comp_words if w not in SWITCHES], *rest)


def complete_group(prefix: str, **_: Any) -> list[str]:
    """Groups for `cl-fisher list`."""
    return [group for group in Catalog((conf_dir(),)).groups if group.startswith(prefix)]


def complete_override(prefix: str, parsed_args: argparse.Namespace | None = None, **_: Any) -> list[str]:
    """Overrides for `cl-fisher run`: first the key, then the value."""
    sign = prefix[: len(prefix) - len(prefix.lstrip("+~"))]
    typed = [o for o in getattr(parsed_args, "overrides", None) or [] if "=" in o]
    chosen = dict(o.split("=", 1) for o in typed)
    extra = getattr(parsed_args, "config_dir", None)
    catalog = Catalog((conf_dir(),) if extra is None else (Path(extra), conf_dir()))
    body = prefix[len(sign) :]
    offers = _values(catalog, chosen, body) if "=" in body else _keys(catalog, chosen, body)
    return [sign + offer for offer in offers if offer.startswith(body)]


def _keys(catalog: Catalog, chosen: dict[str, str], body: str) -> list[str]:
    """Groups and root keys; the options of a component only behind a dot, so that `strat` is `strategy=` at once."""
    names = [*catalog.groups, *(key.name for key in catalog.keys)]
    for group in catalog.groups:
        if body.startswith(f"{group.replace('/', '.')}."):
            own = [key for key in _options(catalog, chosen, group) if not REFERENCE.fullmatch(key.default)]
            names += [f"{group.replace('/', '.')}.{key.name}" for key in own]
    return [f"{name}=" for name in names]


def _values(catalog: Catalog, chosen: dict[str, str], body: str) -> list[str]:
    """Choices of a group or of a key, also as the next part of a list such as strategy=ewc,joint."""
    key, _, value = body.partition("=")
    done, comma, _ = value.rpartition(",")
    known = list(catalog.groups.get(key, {})) or _literals(catalog, chosen, key)
    return [f"{key}={done}{comma}{choice}" for choice in known if choice not in done.split(",")]


def _options(catalog: Catalog, chosen: dict[str, str], group: str) -> list[Any]:
    choice = chosen.get(group, catalog.defaults.get(group) or "").split(",")[0]
    path = catalog.groups[group].get(choice)
    return [] if path is None or not in_its_group(path) else read_keys(path)


def _literals(catalog: Catalog, chosen: dict[str, str], key: str) -> list[str]:
    node, _, name = key.rpartition(".")
    target = SCHEMA.get(node)
    if node in catalog.groups and target is None:
        choice = chosen.get(node, catalog.defaults.get(node) or "").split(",")[0]
        path = catalog.groups[node].get(choice)
        lines = [] if path is None else path.read_text(encoding="utf-8").splitlines()
        target = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("_target_:")), None)
    found = None if target is None else signature(target)
    if found is None or name not in found.parameters:
        return []
    parameter = found.parameters[name]
    return allowed(parameter.annotation, parameter.source)
