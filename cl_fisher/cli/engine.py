"""Hydra, set up once: everything that touches its insides is in this file."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from hydra import version
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from cl_fisher.config import conf_dir, register_resolvers
from cl_fisher.error import InputError

Task = Callable[[DictConfig], Any]


def flags() -> argparse.ArgumentParser:
    """Hydra's own flags, and the overrides."""
    parser: argparse.ArgumentParser = get_args_parser()
    for action in parser._actions:
        if not isinstance(action.help, str):  # a text that is made on demand, which argcomplete cannot take
            action.help = "Install or uninstall Hydra's own shell completion"
    return parser


class Engine:
    """A Hydra over our configuration folder and the one given with --config-dir."""

    def __init__(self, config_dir: str | None = None, config_path: str | None = None, config_name: str | None = None):
        main = conf_dir() if config_path is None else Path(config_path).absolute()
        extra = [] if config_dir is None else [Path(config_dir).absolute()]
        for folder in (*extra, main):
            if not folder.is_dir():
                raise InputError(f"the configuration folder {folder} does not exist")
        self.folders = (*extra, main)
        self.config_name = config_name or "config"
        for folder in self.folders:
            _refuse_record(folder / self.config_name)
        register_resolvers()
        version.setbase("1.3")
        path = create_config_search_path(str(main))
        for folder in extra:
            path.prepend("command-line", f"file://{folder}", SearchPathQuery(provider="schema"))
        GlobalHydra.instance().clear()
        self.hydra = Hydra.create_main_hydra2("cl_fisher", path)
        self.parser = OverridesParser.create(config_loader=self.hydra.config_loader)

    def close(self) -> None:
        """Leave no Hydra behind in this process."""
        GlobalHydra.instance().clear()

    def parse(self, overrides: Sequence[str]) -> list[Override]:
        """The overrides as Hydra reads them."""
        parsed = []
        for text in overrides:
            with one_line(f"cannot read '{text}'; {_hint(text)}"):
                parsed += self.parser.parse_overrides([text])
            if not parsed[-1].key_or_group:
                raise InputError(f"'{text}' has no key; an override looks like key=value")
        return parsed

    def compose(self, overrides: Sequence[str], multirun: bool = False) -> DictConfig:
        """A configuration with its `hydra` node; raises Hydra's own errors. `multirun`: sweeps are left out."""
        mode = RunMode.MULTIRUN if multirun else RunMode.RUN
        return self.hydra.compose_config(self.config_name, list(overrides), mode, from_shell=False)

    def is_group(self, key: str) -> bool:
        """Whether a key names a configuration group, such as strategy or fisher/estimator."""
        return bool(self.hydra.config_loader.get_group_options(key))

    def product(self, overrides: Sequence[str]) -> list[list[str]]:
        """The cells of Hydra's basic sweeper, in its order."""
        with one_line():
            return [list(c) for c in BasicSweeper.split_arguments(self.parse(overrides), None)[0]]

    def run(self, task: Task, overrides: Sequence[str]) -> Any:
        """Run one job in this process and return what `task` returns."""
        return self.hydra.run(self.config_name, task, [*overrides, "hydra.mode=RUN"]).return_value

    def multirun(self, task: Task, overrides: Sequence[str]) -> None:
        """Hand over to the sweeper and the launcher of the configuration."""
        self.hydra.multirun(self.config_name, task, [*overrides, "hydra.mode=MULTIRUN"])

    def show(self, args: argparse.Namespace, overrides: list[str]) -> bool:
        """Answer --cfg, --info, --hydra-help and --shell-completion; False if none of them was given."""
        if args.hydra_help:
            self.hydra.hydra_help(self.config_name, get_args_parser(), argparse.Namespace(overrides=[]))
        elif args.shell_completion:
            self.hydra.shell_completion(self.config_name, overrides)
        elif args.info is not None:
            self.compose(overrides)  # its errors as exceptions: show_info would print them and leave
            self.hydra.show_info(args.info, self.config_name, overrides)
        elif args.cfg is not None:
            cfg = self.compose(overrides)
            if args.package not in (None, "_global_") and OmegaConf.select(cfg, args.package) is None:
                raise InputError(f"--package {args.package}: there is no such part of the configuration")
            self.hydra.show_cfg(self.config_name, overrides, args.cfg, args.package, args.resolve)
        else:
            return False
        return True


def _refuse_record(path: Path) -> None:
    """Raise `InputError` for the resolved config.yaml of a run: it has values, but no choices to start from."""
    file = path.with_suffix(".yaml")
    with one_line(f"{file} is not YAML"):
        content = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else None
    if isinstance(content, dict) and "strategy" in content and "defaults" not in content:
        raise InputError(
            f"{file} is the record of a run, not a configuration to start from: "
            "a run is repeated with the command in its metrics.json"
        )


def _hint(text: str) -> str:
    """How a text that Hydra cannot read should look."""
    key, equals, value = text.partition("=")
    if not equals or value.startswith(("[", "{", "'", '"')):
        return "an override looks like key=value"
    return f'a value with such characters needs quotes within quotes: {key}="{quoted("", value)[1:]}"'


def is_basic(cfg: DictConfig) -> bool:
    """Whether the sweeper is Hydra's basic one, whose cells are known beforehand."""
    return str(cfg.hydra.sweeper._target_).endswith(".BasicSweeper")


def one_by_one(cfg: DictConfig) -> list[str]:
    """An override that keeps the basic sweeper and launcher from composing all cells again before the first starts."""
    basic = str(cfg.hydra.launcher._target_).endswith(".BasicLauncher") and cfg.hydra.sweeper.max_batch_size is None
    return ["hydra.sweeper.max_batch_size=1"] if basic else []


def is_multirun(cfg: DictConfig) -> bool:
    """Whether the configuration itself asks for a multirun."""
    return cfg.hydra.mode == RunMode.MULTIRUN


def output_dir(cfg: DictConfig, kind: str) -> str | None:
    """The folder that the configuration asks for, for `kind` run or sweep; None if it leaves the choice to us."""
    written = OmegaConf.to_container(cfg.hydra[kind], resolve=False)["dir"]  # type: ignore[call-overload, index]
    if "${output_dir}" in str(written) and cfg.output_dir is None:
        return None
    with one_line():
        return str(cfg.hydra[kind].dir)


def subfolder(cfg: DictConfig, number: int) -> str:
    """The folder of the `number`-th job within its multirun's."""
    with open_dict(cfg), one_line():
        cfg.hydra.job.num = number
        return str(cfg.hydra.sweep.subdir)


def typed(hydra: Any) -> list[str]:
    """What makes a job differ from the default one: its overrides without those that name folders and loudness."""
    hidden = [*hydra.job.config.override_dirname.exclude_keys]
    return [str(o) for o in hydra.overrides.task if str(o).partition("=")[0] not in hidden]


def choices(hydra: Any) -> dict[str, str]:
    """What was chosen from each group, those of Hydra's own left out."""
    chosen = hydra.runtime.choices.items()
    return {str(group): str(choice) for group, choice in chosen if choice is not None and "hydra/" not in str(group)}


def dataset_name(cfg: DictConfig, choices: dict[str, str]) -> str:
    """What the data sets are called, one after the other if the benchmark has several."""
    own = list(cfg.benchmark.get("datasets", {}))[: cfg.n_tasks]
    return " → ".join(choices.get(f"dataset@benchmark.datasets.{n}", str(n)) for n in own) or choices["dataset"]


def job(cfg: DictConfig) -> DictConfig:
    """The configuration without its `hydra` node."""
    plain = cfg.copy()
    with open_dict(plain):
        del plain["hydra"]
    return plain


def quoted(key: str, value: Path | str) -> str:
    """An override that sets `key` to a text, whatever characters are in it."""
    return f"{key}={QuotedString(str(value), Quote.single).with_quotes()}"


ERRORS = (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError)
"""What is raised where an override or a YAML file is wrong."""


@contextmanager
def one_line(message: str = "") -> Iterator[None]:
    """Hydra's complaints as one line of ours."""
    try:
        yield
    except InputError:
        raise
    except ERRORS as error:
        raise InputError(message or flat(error)) from error


def flat(error: BaseException) -> str:
    """A message of several lines and that of its cause as one line."""
    cause = error.__cause__
    lines = [str(error).partition("Config search path:")[0], str(cause) if isinstance(cause, ERRORS) else ""]
    return " ".join(" ".join(lines).split())
