"""From an override that Hydra refuses to one line that says what was meant."""

from collections.abc import Sequence

from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf

from cl_fisher.cli.catalog import Catalog
from cl_fisher.cli.engine import ERRORS, Engine, choices, flat
from cl_fisher.cli.override import PRESETS, check_repeated
from cl_fisher.config.annotation import show
from cl_fisher.config.suggest import did_you_mean
from cl_fisher.config.validate import HEAD, unknown_option
from cl_fisher.error import InputError


def explain(engine: Engine, overrides: Sequence[str], error: BaseException) -> InputError:
    """The one line for a composition that failed: the wrong override if it is found, else Hydra's own words."""
    catalog = Catalog(engine.folders)
    parsed = [o for o in engine.parse(overrides) if not o.is_sweep_override() and not o.is_hydra_override()]
    chosen = [o for o in parsed if engine.is_group(o.key_or_group) and not isinstance(o.value(), dict)]
    message = next((m for o in chosen if (m := _wrong_choice(catalog, o))), None)
    if message is None:
        message = _wrong_key(engine, catalog, [o for o in parsed if o not in chosen], chosen)
    return InputError(message or flat(error))


def _wrong_choice(catalog: Catalog, override: Override) -> str | None:
    group, choice = override.key_or_group, override.value()
    choices = catalog.groups.get(group, {})
    if override.is_delete() or isinstance(choice, (list, dict)) or str(choice) in choices:
        return None
    if choice is None and group in PRESETS:
        return f"{group}=null: Hydra takes no null for a group; ~{group} leaves it out"
    text = show(choice)
    near = did_you_mean(text, choices) or ";"
    return f"{group}={text}: there is no {group} '{text}'{near} there are {', '.join(choices)}"


def _wrong_key(engine: Engine, catalog: Catalog, values: list[Override], chosen: list[Override]) -> str | None:
    try:
        base = engine.compose([str(o.input_line) for o in chosen])
    except ERRORS:
        return None
    check_repeated(catalog, values, choices(base.hydra))
    changes = [o for o in values if o.type is OverrideType.CHANGE]
    return next((m for o in changes if (m := _unknown_key(catalog, base, o))), None)


def _unknown_key(catalog: Catalog, base: DictConfig, override: Override) -> str | None:
    key = override.key_or_group
    if (override.key_or_group in catalog.groups or has(base, key)) and isinstance(override.value(), dict):
        return _unknown_part(base, override)
    if "/" in key and has(base, key.replace("/", ".")):
        return f"'{override.input_line}': {key} is no group; write {key.replace('/', '.')}=..., with a dot"
    inside = [group for group in catalog.groups if group.startswith(f"{key}/")]
    if inside:
        return f"'{override.input_line}': {key} is no group itself; there are {', '.join(inside)}"
    if "/" in key:
        hint = did_you_mean(key, catalog.groups) or f"; there are {', '.join(catalog.groups)}"
        return f"there is no group '{key}'{hint}"
    if has(base, key):
        return None
    if key == "scenario.head":
        return HEAD
    parent, _, last = key.rpartition(".")
    while "." in parent and not has(base, parent):  # to the first part that is not there
        parent, _, last = parent.rpartition(".")
    if parent and not has(base, parent):
        return f"there is no key '{key}'{did_you_mean(parent, _names(catalog, base), '')}"
    node = OmegaConf.select(base, parent) if parent else base
    if not isinstance(node, DictConfig):
        return f"there is no key '{key}': {parent} has no options"
    if "_target_" in node:
        return unknown_option(parent, last, {str(k): None for k in node} | {"_target_": node["_target_"]})
    names = [str(k) for k in node] if parent else _names(catalog, base)
    return f"there is no key '{key}'{did_you_mean(last, names, f'{parent}.' if parent else '')}"


def _unknown_part(base: DictConfig, override: Override) -> str | None:
    """What is wrong with {...} as a value."""
    key, value = override.key_or_group.replace("/", "."), override.value()
    assert isinstance(value, dict)
    node = OmegaConf.select(base, key)
    if not isinstance(node, DictConfig):
        return f"'{override.input_line}': {key} has no options, so {{...}} is no value for it"
    name = next((str(k) for k in value if k not in node), None)
    if name is None:
        return None
    shown = {str(k): None for k in node} | {"_target_": node.get("_target_", key)}
    return unknown_option(key, name, shown)


def _names(catalog: Catalog, base: DictConfig) -> list[str]:
    return [*catalog.groups, *(str(key) for key in base if key != "hydra")]


def has(cfg: DictConfig, key: str) -> bool:
    """Whether a dotted key is in the configuration, even if its value is null or cannot be resolved."""
    node: object = cfg
    for part in key.split("."):
        if not isinstance(node, DictConfig) or part not in node:
            return False
        node = None if OmegaConf.is_interpolation(node, part) or OmegaConf.is_missing(node, part) else node[part]
    return True
