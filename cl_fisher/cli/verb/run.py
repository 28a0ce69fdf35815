"""`cl-fisher run`: one task sequence, or a multirun."""

import argparse
from contextlib import closing
from pathlib import Path

from cl_fisher.cli import folder
from cl_fisher.cli.catalog import Catalog
from cl_fisher.cli.completer import complete_override
from cl_fisher.cli.engine import Engine, flags
from cl_fisher.cli.guide import run_help
from cl_fisher.cli.launch import launch
from cl_fisher.cli.override import check_typed
from cl_fisher.cli.parser import Parser
from cl_fisher.cli.sweep import Plan, explained, plan
from cl_fisher.error import InputError

SUMMARY = "run one task sequence, or with -m several and compare them"


def parser() -> argparse.ArgumentParser:
    """Hydra's flags and two of ours."""
    own = Parser(prog="cl-fisher run", parents=[flags()], add_help=False)
    loudness = own.add_mutually_exclusive_group()
    loudness.add_argument(
        "-q", "--quiet", action="store_const", const="verbosity=0", dest="loudness", help="verbosity=0"
    )
    loudness.add_argument(
        "-v", "--verbose", action="store_const", const="verbosity=2", dest="loudness", help="verbosity=2"
    )
    overrides = next(a for a in own._actions if a.dest == "overrides")
    overrides.completer = complete_override  # type: ignore[attr-defined]
    return own


def main(args: argparse.Namespace) -> int:
    """Check everything that can be checked, then compute."""
    if args.help:
        print(run_help())
        return 0
    _check_flags(args)
    with closing(Engine(args.config_dir, args.config_path, args.config_name)) as engine:
        return _run(engine, args)


def _run(engine: Engine, args: argparse.Namespace) -> int:
    overrides = [*args.overrides, *([args.loudness] if args.loudness else [])]
    if args.cfg is not None or args.info is not None:
        check_typed(Catalog(engine.folders), engine.parse(overrides), multirun=False)
    with explained(engine, overrides):
        if engine.show(args, overrides):
            return 0
    todo = plan(engine, overrides, args.multirun)
    wanted = None if todo.output_dir is None else Path(todo.output_dir).expanduser()
    folder.check(wanted)
    _check_thoroughly(todo)
    where = folder.reserve(wanted, "multirun" if todo.multirun else "run")
    again = [f for name in ("config_path", "config_dir", "config_name") for f in _flag(args, name)]
    return launch(engine, todo, where, tuple(again))


def _check_flags(args: argparse.Namespace) -> None:
    if args.experimental_rerun is not None:
        raise InputError(
            "--experimental-rerun is not supported: metrics.json of a run names the command that runs it again"
        )
    if args.resolve and args.cfg is None:
        raise InputError("--resolve goes with --cfg only")
    modes = {"--run": args.run, "--multirun": args.multirun, "--cfg": args.cfg, "--info": args.info}
    given = [name for name, value in modes.items() if value]
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)} exclude each other")


def _flag(args: argparse.Namespace, name: str) -> list[str]:
    value = getattr(args, name)
    if value is None:
        return []
    return [f"--{name.replace('_', '-')}", value if name == "config_name" else str(Path(value).absolute())]


def _check_thoroughly(todo: Plan) -> None:
    """The checks that need torch and the data, once for cells that only the seed tells apart."""
    if not todo.known:
        return
    from cl_fisher.cli import job

    different = {cell.distinct(): cell for cell in reversed(todo.cells)}
    for cell in reversed(different.values()):
        job.check(cell.cfg)
