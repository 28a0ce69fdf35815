"""Every YAML file: it composes, is valid, is described, and its target takes the options that it sets."""

import inspect
import re

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import get_object
from omegaconf import OmegaConf

from cl_fisher.cli.catalog import Catalog, description
from cl_fisher.config import conf_dir, register_resolvers, validate
from cl_fisher.config.root import SCHEMA
from cl_fisher.config.signature import constant

CATALOG = Catalog((conf_dir(),))
FILES = [(group, choice) for group, choices in CATALOG.groups.items() for choice in choices]
GLOBAL = ("experiment", "debug")


def composed(group, choice):
    register_resolvers()
    key = f"+{group}" if CATALOG.defaults.get(group) is None and group not in CATALOG.defaults else group
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("config", overrides=[f"{key}={choice}"])
        possible = constant(str(cfg.strategy["_target_"]), "SCENARIOS") if group == "strategy" else None
        return compose("config", overrides=[f"{key}={choice}", f"scenario={possible[0]}"]) if possible else cfg


@pytest.mark.parametrize(("group", "choice"), FILES)
def test_a_file_composes_into_a_valid_configuration(group, choice):
    validate(composed(group, choice))


@pytest.mark.parametrize(("group", "choice"), FILES)
def test_a_file_starts_with_what_it_is(group, choice):
    path = CATALOG.groups[group][choice]
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# ")
    assert description(path)
    if group in GLOBAL:
        assert lines[0] == "# @package _global_"
        assert re.match(r"# cl-fisher run .*\b" + f"{group}={choice}", lines[1]), "its command line comes first"


@pytest.mark.parametrize(("group", "choice"), [f for f in FILES if f[0] not in GLOBAL])
def test_the_target_takes_the_options(group, choice):
    node = OmegaConf.to_container(composed(group, choice), resolve=True)
    for part in group.split("/"):
        node = node[part]
    target = node.get("_target_", SCHEMA.get(group))
    options = {key: value for key, value in node.items() if not key.startswith("_")}
    inspect.signature(get_object(target)).bind_partial(**options)


def test_every_key_is_explained():
    assert [key.name for key in CATALOG.keys if not key.comment] == []
    assert {"seed", "fisher.samples", "loader.workers", "output_dir"} <= {key.name for key in CATALOG.keys}


def test_every_strategy_has_a_strength():
    """So that `-m strategy=finetune,ewc strategy.strength=3` runs."""
    assert all("strength" in composed("strategy", choice).strategy for choice in CATALOG.groups["strategy"])
