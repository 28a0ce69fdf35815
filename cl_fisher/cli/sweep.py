"""From what was typed to the jobs that will run: each composed and checked before the first one starts."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from cl_fisher.cli.catalog import Catalog
from cl_fisher.cli.engine import (
    ERRORS,
    Engine,
    choices,
    dataset_name,
    is_basic,
    is_multirun,
    job,
    one_by_one,
    output_dir,
    subfolder,
    typed,
)
from cl_fisher.cli.mistake import explain
from cl_fisher.cli.override import check_read, check_repeated, check_typed, check_used, from_preset
from cl_fisher.config import validate
from cl_fisher.error import InputError

NAMES = ("strategy", "benchmark", "dataset", "scenario")
"""The groups whose choices name a run."""


@dataclass(frozen=True)
class Cell:
    """One job: what makes it differ, its configuration, and its folder within the multirun's."""

    overrides: tuple[str, ...]
    cfg: DictConfig
    choices: dict[str, str]
    folder: str = ""

    def distinct(self) -> str:
        """Equal for cells that only the seed tells apart."""
        return self.content("seed")

    def content(self, *without: str) -> str:
        """Equal for cells of one configuration, whatever they print; `without` some of its keys."""
        plain = OmegaConf.to_container(self.cfg, resolve=False)
        assert isinstance(plain, dict)
        return repr({key: value for key, value in plain.items() if key not in ("verbosity", *without)})


@dataclass(frozen=True)
class Plan:
    """What is about to be run."""

    multirun: bool
    typed: tuple[str, ...]
    overrides: tuple[str, ...]
    """What Hydra gets: the same, with every sweep written out."""
    cells: tuple[Cell, ...]
    known: bool
    """False for sweepers that make up their cells as they go: `cells` is then the base configuration alone."""
    output_dir: str | None


def plan(engine: Engine, overrides: Sequence[str], multirun: bool) -> Plan:
    """Parse, expand, compose and validate; raises `InputError` for the first mistake in any cell."""
    parsed = engine.parse(overrides)
    check_typed(Catalog(engine.folders), parsed, multirun=True)
    hydra = [str(o.input_line) for o in parsed if o.is_hydra_override()]
    others = [o for o in parsed if not o.is_hydra_override()]
    with explained(engine, overrides):
        base = engine.compose([*hydra, *(s for o in others for s in _for_base(engine, o))], multirun=True)
    if not (multirun or is_multirun(base)):
        check_typed(Catalog(engine.folders), parsed, multirun=False)
        return _single(engine, overrides, parsed)
    if not is_basic(base):
        with explained(engine, overrides):
            base = engine.compose(overrides, multirun=True)
        cell = _check(engine, others, base)
        return Plan(True, tuple(overrides), tuple(overrides), (cell,), False, output_dir(base, "sweep"))
    params = [f"{key}={value}" for key, value in (base.hydra.sweeper.params or {}).items()]
    spread = [_spread(engine, o) for o in [*engine.parse(params), *others]]
    cells: list[Cell] = []
    wanted = None
    for number, own in enumerate(engine.product(spread)):
        cell, folder = _compose_cell(engine, hydra, own, number)
        wanted = wanted or folder
        cells.append(cell)
    _check_different(cells)
    everything = (*hydra, *one_by_one(base), *spread)
    return Plan(True, tuple(overrides), everything, tuple(cells), True, wanted)


def _check_different(cells: Sequence[Cell]) -> None:
    """Raise `InputError` for a run or a folder that comes twice.

    Means and intervals would count the run twice, and the second one in a folder would write over the first.
    """
    runs: dict[str, int] = {}
    folders: dict[str, int] = {}
    for number, cell in enumerate(cells):
        first = runs.setdefault(cell.content(), number)
        if first < number:
            what = " ".join(cell.overrides) or "all defaults"
            raise InputError(f"cells {first} and {number} are the same run ({what}): give each value once")
        first = folders.setdefault(cell.folder, number)
        if first < number:
            raise InputError(
                f"hydra.sweep.subdir={cell.folder} is the folder of cells {first} and {number}: each needs its own"
            )


def _single(engine: Engine, overrides: Sequence[str], parsed: Sequence[Override]) -> Plan:
    with explained(engine, overrides):
        cfg = engine.compose(overrides)
    cell = _check(engine, parsed, cfg)
    return Plan(False, tuple(overrides), tuple(overrides), (cell,), True, output_dir(cfg, "run"))


def _compose_cell(engine: Engine, hydra: list[str], own: list[str], number: int) -> tuple[Cell, str | None]:
    try:
        parsed = engine.parse(own)
        check_typed(Catalog(engine.folders), parsed, multirun=False)
        with explained(engine, own):
            cfg = engine.compose([*hydra, *own])
        cell = _check(engine, parsed, cfg)
    except InputError as error:
        raise InputError(f"{error} (cell {number}: {' '.join(own)})" if len(own) > 1 else str(error)) from error
    return replace(cell, folder=subfolder(cfg, number)), output_dir(cfg, "sweep")


def _check(engine: Engine, parsed: Sequence[Override], cfg: DictConfig) -> Cell:
    """A composed job as a cell, once it is right."""
    if cfg.hydra.job.chdir:
        raise InputError("hydra.job.chdir=true is not possible: paths are meant from the folder that you are in")
    chosen, plain = choices(cfg.hydra), job(cfg)
    catalog = Catalog(engine.folders)
    check_repeated(catalog, parsed, chosen)
    check_read(catalog, parsed, plain)
    try:
        validate(plain)
    except InputError as error:
        raise InputError(f"{error}{from_preset(catalog, parsed, chosen, str(error))}") from error
    check_used(parsed, chosen.get("benchmark", ""), list(plain.benchmark.get("datasets", {})))
    missing = next((group for group in NAMES if group not in chosen), None)
    if missing is not None:
        raise InputError(f"{missing}: a run is named by its choice, a file {missing}/NAME.yaml; write {missing}=NAME")
    return Cell(tuple(typed(cfg.hydra)), plain, chosen | {"dataset": dataset_name(plain, chosen)})


def _for_base(engine: Engine, override: Override) -> list[str]:
    """What the configuration around the sweep is made of: no sweeps, and no value that only some cells have."""
    keep = engine.is_group(override.key_or_group) and not override.is_sweep_override()
    return [str(override.input_line)] if keep else []


def _spread(engine: Engine, override: Override) -> str:
    """The same override with its values written out.

    A shuffled sweep then has one order, here and in Hydra's sweeper; and a single value becomes a sweep of one, because
    Hydra tries single values on the configuration around the sweep, where `strategy.gamma` may not exist. (Not a null,
    which its choice(...) does not take.)
    """
    if override.is_delete() or (engine.is_group(override.key_or_group) and not override.is_sweep_override()):
        return str(override.input_line)
    if override.is_sweep_override() and not override.is_discrete_sweep():
        raise InputError(f"'{override.input_line}': Hydra's basic sweeper wants values to choose from, not an interval")
    values = (
        list(override.sweep_string_iterator())
        if override.is_sweep_override()
        else [override.get_value_element_as_str()]
    )
    if not values:
        raise InputError(f"'{override.input_line}' names no value at all")
    written = ",".join(value or "''" for value in values)
    one = len(values) == 1 and written != "null"
    return f"{override.get_key_element()}={f'choice({written})' if one else written}"


@contextmanager
def explained(engine: Engine, overrides: Sequence[str]) -> Iterator[None]:
    """Hydra's composition errors as one line that names the wrong override."""
    try:
        yield
    except InputError:
        raise
    except ERRORS as error:
        raise explain(engine, overrides, error) from error
