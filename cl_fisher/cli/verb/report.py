"""`cl-fisher report`: tables, plots and one HTML page from run folders."""

import argparse
from pathlib import Path

from argcomplete.completers import DirectoriesCompleter

from cl_fisher.cli.folder import RESULTS, check_writable
from cl_fisher.cli.parser import Parser
from cl_fisher.error import InputError

SUMMARY = "make tables, plots and one HTML page from folders of results"


def parser() -> argparse.ArgumentParser:
    """Folders and where to write."""
    own = Parser(
        prog="cl-fisher report",
        description="Read the folders of runs and multiruns, print their comparison (mean and 95 % interval over "
        "seeds) and write report.html with every table and plot in it.",
        epilog="example: cl-fisher report outputs/multirun/2025-01-31/* -o comparison",
    )
    folders = own.add_argument("folders", nargs="+", metavar="DIR", type=Path, help="folder of a run or a multirun")
    folders.completer = DirectoriesCompleter()  # type: ignore[attr-defined]
    out = "folder to write to (default: DIR, if it is the only one)"
    own.add_argument("-o", "--out", metavar="OUT", type=Path, help=out)
    return own


def main(args: argparse.Namespace) -> int:
    """Read, print, write."""
    for folder in args.folders:
        if not folder.is_dir():
            raise InputError(f"there is no folder {folder}")
        if not any((folder / name).exists() for name in RESULTS):
            raise InputError(f"{folder} is neither a run nor a multirun: it holds no {' or '.join(RESULTS)}")
    if args.out is not None or len(args.folders) == 1:
        out = args.out or args.folders[0]
        check_writable(out, f"the report goes to {out}")
    from rich.console import Console

    from cl_fisher.reporting.report import write_report
    from cl_fisher.reporting.table import print_comparison

    write_report(args.folders, args.out)
    print_comparison(args.folders, Console(), args.out)
    return 0
