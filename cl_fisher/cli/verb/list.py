"""`cl-fisher list`: what can be chosen."""

import argparse
import sys
from pathlib import Path
from typing import Any

from cl_fisher.cli.catalog import Catalog, description, in_its_group, read_keys
from cl_fisher.cli.completer import complete_group
from cl_fisher.cli.parser import Parser
from cl_fisher.config import conf_dir
from cl_fisher.config.suggest import did_you_mean
from cl_fisher.error import InputError

SUMMARY = "list what can be chosen, one line each"


def parser() -> argparse.ArgumentParser:
    """An optional group."""
    own = Parser(
        prog="cl-fisher list",
        description="List the groups with their choices, or the choices of one group with their options.",
        epilog="examples: cl-fisher list; cl-fisher list strategy; cl-fisher list fisher/estimator",
    )
    group = own.add_argument("group", nargs="?", metavar="GROUP", help="such as strategy or fisher/estimator")
    group.completer = complete_group  # type: ignore[attr-defined]
    own.add_argument("-cd", "--config-dir", metavar="DIR", type=Path, help="a folder of your own with more choices")
    return own


def main(args: argparse.Namespace) -> int:
    """Print a table, or plain lines where the output is not a terminal."""
    if args.config_dir is not None and not args.config_dir.is_dir():
        raise InputError(f"the configuration folder {args.config_dir} does not exist")
    catalog = Catalog((conf_dir(),) if args.config_dir is None else (args.config_dir, conf_dir()))
    if args.group is None:
        rows = [
            (group, choice, description(path))
            for group, choices in catalog.groups.items()
            for choice, path in choices.items()
        ]
    elif args.group in catalog.groups:
        rows = _options(catalog, args.group)
    else:
        hint = did_you_mean(args.group, catalog.groups) or f"; there are {', '.join(catalog.groups)}"
        raise InputError(f"there is no group '{args.group}'{hint}")
    _show(rows, ("group", "choice", "what") if args.group is None else ("choice", "option", "what"))
    return 0


def _options(catalog: Catalog, group: str) -> list[tuple[str, str, str]]:
    rows = []
    for choice, path in catalog.groups[group].items():
        rows.append((choice, "", description(path)))
        package = f"{group.replace('/', '.')}." if in_its_group(path) else ""
        rows += [(choice, f"{package}{k.name}={k.default}", k.comment) for k in read_keys(path)]
    return rows


def _show(rows: list[tuple[str, str, str]], titles: tuple[str, str, str]) -> None:
    if not sys.stdout.isatty():
        widths = [max(len(row[i]) for row in rows) for i in (0, 1)]
        for first, second, text in rows:
            print(f"{first:{widths[0]}}  {second:{widths[1]}}  {text}".rstrip())
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(*titles, box=None, header_style="bold")
    previous: Any = None
    for first, *rest in rows:
        table.add_row("" if first == previous else first, *rest)
        previous = first
    Console().print(table)
