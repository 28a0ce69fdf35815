"""Is a composed configuration right? All that can be told without importing torch or touching data."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cl_fisher.benchmark.rule import check_sequence, check_split
from cl_fisher.config.annotation import problem
from cl_fisher.config.reserved import refusal
from cl_fisher.config.resolver import register_resolvers
from cl_fisher.config.root import SCHEMA
from cl_fisher.config.signature import Signature, constant, signature
from cl_fisher.config.suggest import did_you_mean
from cl_fisher.dataset.n_classes import n_classes
from cl_fisher.error import InputError
from cl_fisher.fisher.together import check_together

Node = dict[str, Any]

SPLIT = "cl_fisher.benchmark.split.split"
SEQUENCE = "cl_fisher.benchmark.sequence.sequence"
BATCHED = "cl_fisher.fisher.estimator.batched_empirical.BatchedEmpirical"
DIAGONAL = "cl_fisher.fisher.structure.diagonal.DiagonalStructure"
NCL = "cl_fisher.strategy.ncl.NCL"
REFERENCE = re.compile(r"\$\{([A-Za-z_][\w.]*)\}")
"""A value that is another key's, such as ${fisher.samples}."""
HEAD = "scenario.head belongs to scenario=class: the other scenarios leave no choice"


def validate(cfg: DictConfig) -> None:
    """Check keys, types, bounds and choices of every node against the signature that it is meant for.

    Raises:
        InputError: the first mistake found.
    """
    register_resolvers()
    values = resolved(cfg)
    _check_schema(cfg, values)
    _check_own_data(cfg, values)
    for path, node in components(cfg, values):
        _check_component(cfg, path, node)
    if "head" in values["scenario"] and values["scenario"]["name"] != "class":
        raise InputError(HEAD)
    if values["epochs"] is None and values["iterations"] is None:
        raise InputError("epochs and iterations are both null: set one of them")
    if values["eval_samples"] is not None and values["eval_every"] is None:
        text = "at task ends all test examples are evaluated"
        raise InputError(f"eval_samples={values['eval_samples']} needs eval_every=...: {text}")
    _check_split(values)
    _check_sequence(values)
    _check_scenario(values)
    _check_fisher(values["fisher"])
    for key in ("output_dir", "data_dir", "reference_dir", "root", "path"):
        if values[key] == "":
            raise InputError(f"{key}= is empty: it must name a {'file' if key == 'path' else 'folder'}")
    _check_data_dir(Path(str(values["data_dir"])).expanduser())


def resolved(cfg: DictConfig) -> Node:
    """The configuration as plain containers, every ${...} replaced by its value."""
    try:
        values = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        lines = str(error).splitlines()
        where = next((f" (at {line.split(':', 1)[1].strip()})" for line in lines if "full_key:" in line), "")
        raise InputError(lines[0] + where) from error
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def components(cfg: Any, values: Any, path: str = "") -> Iterator[tuple[str, Node]]:
    """Every node with a `_target_` and its dotted path, where it is written and not where ${...} repeats it."""
    if not isinstance(values, dict):
        return
    if "_target_" in values:
        yield path, values
    for key, value in values.items():
        if isinstance(value, dict) and not OmegaConf.is_interpolation(cfg, key):
            yield from components(cfg[key], value, _join(path, key))


def _check_schema(cfg: DictConfig, values: Node) -> None:
    for path, target in SCHEMA.items():
        node = values if path == "" else values[path]
        wanted = signature(target)
        assert wanted is not None
        if not isinstance(node, dict):
            raise InputError(
                f"{path}={node}: it has options of its own, such as {path}.{next(iter(wanted.parameters))}"
            )
        if path != "scenario":
            missing = [_join(path, name) for name in wanted.parameters if name not in node]
            if missing:
                raise InputError(f"{missing[0]} is missing: a run needs one")
        for key, value in node.items():
            if key in wanted.parameters:
                _check_value(_join(path, key), value, wanted, key)
            elif not isinstance(value, dict) and f"${{{_join(path, key)}" not in OmegaConf.to_yaml(cfg):
                near = did_you_mean(key, wanted.parameters, f"{path}." if path else "")
                raise InputError(f"there is no key '{_join(path, key)}'{near}")


def _check_component(cfg: DictConfig, path: str, node: Node) -> None:
    wanted = signature(str(node["_target_"]))
    for key, value in node.items():
        if (reserved := refusal(path, key)) is not None:
            raise InputError(reserved)
        if wanted is None or key.startswith("_"):
            continue
        if key not in wanted.parameters and not wanted.open:
            raise InputError(unknown_option(path, key, node))
        if key in wanted.parameters:
            _check_value(_origin(cfg, f"{path}.{key}"), value, wanted, key)


def _check_fisher(fisher: Node) -> None:
    estimator, structure = (str(fisher[part].get("_target_")) for part in ("estimator", "structure"))
    check_together(
        "batched_empirical",
        estimator == BATCHED,
        structure.rpartition(".")[0].rpartition(".")[2],
        structure == DIAGONAL,
        fisher["sampling"],
        fisher["samples"],
    )


def _origin(cfg: DictConfig, name: str) -> str:
    """The key where a value is written: that of strategy.samples, which is ${fisher.samples}, at fisher.samples."""
    parent, _, key = name.rpartition(".")
    node = OmegaConf.select(cfg, parent) if parent else cfg
    raw = OmegaConf.to_container(node, resolve=False)
    written = REFERENCE.fullmatch(str(raw.get(key))) if isinstance(raw, dict) else None
    return name if written is None else _origin(cfg, written[1])


def unknown_option(path: str, key: str, node: Node) -> str:
    """The one line about an option that a component does not have, or that its YAML does not show."""
    reserved = refusal(path, key)
    if reserved is not None:
        return reserved
    wanted = signature(str(node["_target_"]))
    named = [] if wanted is None else list(wanted.parameters)
    shown = [k for k in node if not k.startswith("_") and k != key]
    name = node["_target_"].rpartition(".")[2]
    if wanted is None or wanted.open or key in named:
        near = did_you_mean(key, shown, f"{path}.") or ";"
        return f"{path}.{key} is not in the YAML file{near} if {name} has such an option, write +{path}.{key}=..."
    near = did_you_mean(key, [*shown, *named], f"{path}.")
    takes = f"it takes {', '.join(shown)}" if shown else "it takes none"
    return f"{path}.{key}: {name} has no option '{key}'{near or ';'} {takes}"


def _check_value(name: str, value: Any, wanted: Signature, key: str) -> None:
    if isinstance(value, dict) and "_target_" in value:
        return
    parameter = wanted.parameters[key]
    trouble = problem(name, value, parameter.annotation, parameter.source)
    if trouble is not None:
        raise InputError(trouble)


def _check_own_data(cfg: DictConfig, values: Node) -> None:
    """Where the user's own data lie, which only some data sets ask for."""
    text = OmegaConf.to_yaml(cfg)
    for key, dataset, what in (("root", "image_folder", "FOLDER"), ("path", "arrays", "FILE.npz")):
        asked = f"${{{key}}}" in text
        if asked and values[key] is None:
            raise InputError(f"{key} is missing: the data set needs to know where your data are; write {key}={what}")
        if not asked and values[key] is not None:
            raise InputError(
                f"{key}={values[key]} belongs to dataset={dataset}: the data set that is chosen does not take it"
            )


def _check_split(values: Node) -> None:
    """More tasks than the classes allow, where their number stands in the data set's source file."""
    benchmark, dataset = values["benchmark"], values["dataset"]
    number = n_classes(constant(dataset["_target_"], "N_CLASSES"), dataset)
    if benchmark["_target_"] == SPLIT and number is not None:
        how = {key: benchmark[key] for key in ("class_order", "sizes") if key in benchmark}
        scenario = values["scenario"]
        check_split(values["n_tasks"], number, scenario["name"], head=scenario.get("head", "growing"), **how)


def _check_sequence(values: Node) -> None:
    """A sequence of data sets, as far as their source files tell; `job.check` looks at the data themselves."""
    if values["benchmark"]["_target_"] == SEQUENCE:
        datasets = values["benchmark"].get("datasets", {})
        counts = {name: constant(str(data.get("_target_")), "N_CLASSES") for name, data in datasets.items()}
        known = {name: n if isinstance(n, int) else None for name, n in counts.items()}
        check_sequence(values["n_tasks"], known, values["scenario"]["name"])


def _check_scenario(values: Node) -> None:
    """What a strategy cannot do: `SCENARIOS`, `TASK_ENDS`, `UNBLURRED`, `OLD_ROWS` with reasons, in its source file."""
    name, rows, blur = (values["scenario"].get(key) for key in ("name", "old_rows", "blur"))
    strategy = values["strategy"]
    for part in [strategy, *strategy.get("parts", {}).values()]:
        target = part.get("_target_", "")
        kind = str(target).rpartition(".")[2]
        possible = constant(str(target), "SCENARIOS")
        if isinstance(possible, tuple) and name not in possible:
            why = constant(str(target), "WHY")
            raise InputError(f"scenario={name} is not possible with {kind}: {why}; it can be {', '.join(possible)}")
        needs_ends = constant(str(target), "TASK_ENDS")
        if values["consolidate_every"] is not None and needs_ends is not None:
            every = values["consolidate_every"]
            raise InputError(f"consolidate_every={every} is not possible with {kind}: {needs_ends}")
        unblurred = constant(str(target), "UNBLURRED")
        if blur and unblurred is not None:
            raise InputError(f"scenario.blur={blur:g} is not possible with {kind}: {unblurred}")
        possible = constant(str(target), "OLD_ROWS")
        if isinstance(possible, tuple) and rows is not None and rows not in possible:
            raise InputError(
                f"scenario.old_rows={rows} is not possible with {kind}, which {constant(str(target), 'WHY_ROWS')}; "
                f"it can be {', '.join(possible)}"
            )
        if rows is not None and rows != "penalised":
            _check_solved(part, rows)


def _check_solved(strategy: Node, rows: str) -> None:
    """What solves for all weights together may not find some of them held, or its answer for the others is wrong."""
    structure = strategy.get("prior", strategy).get("structure", "diagonal")
    if isinstance(structure, dict):
        structure = str(structure["_target_"]).rpartition(".")[0].rpartition(".")[2]
    proximal = strategy.get("step") == "proximal"
    if (proximal or strategy["_target_"] == NCL) and structure not in ("diagonal", "identity"):
        raise InputError(
            f"scenario.old_rows={rows} is not possible with {'step=proximal' if proximal else 'NCL'} and "
            f"fisher/structure={structure}, which solve for all weights together, the rows of earlier tasks included; "
            "the structure can be diagonal, or old_rows penalised"
        )


def _check_data_dir(path: Path) -> None:
    try:
        if path.exists() and not path.is_dir():
            raise InputError(f"data_dir={path} is not a folder")
        if path.exists() and not os.access(path, os.R_OK | os.X_OK):
            raise InputError(f"data_dir={path} cannot be read: permission denied")
    except OSError as error:
        raise InputError(f"data_dir={path} cannot be read: {error.strerror}") from error


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
