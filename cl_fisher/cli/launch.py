"""Hands a checked plan over to Hydra, and makes the report of what came out."""

import json
import os
import shlex
import sys
from datetime import datetime
from functools import partial
from pathlib import Path

from cl_fisher.cli.engine import Engine, quoted
from cl_fisher.cli.sweep import Cell, Plan
from cl_fisher.cli.task import ERROR_FILE, report, run_cell, run_single


def launch(engine: Engine, todo: Plan, where: Path, flags: tuple[str, ...]) -> int:
    """Run every cell; returns the exit status. `flags`: what the command line of a cell needs beside its overrides."""
    return (_multirun if todo.multirun else _single)(engine, todo, where, flags)


def _single(engine: Engine, todo: Plan, where: Path, flags: tuple[str, ...]) -> int:
    result = engine.run(partial(run_single, flags=flags), [*todo.overrides, quoted("hydra.run.dir", where)])
    if isinstance(result, Exception):
        raise result
    _compare(where, todo)
    return 0 if (where / "report.html").exists() else 1


def _multirun(engine: Engine, todo: Plan, where: Path, flags: tuple[str, ...]) -> int:
    head = {
        "command": shlex.join(["cl-fisher", "run", "-m", *flags, *todo.typed]),
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    _write_cells(where, head, [_entry(cell) for cell in todo.cells] if todo.known else [])
    page = None
    try:
        engine.multirun(partial(run_cell, flags=flags), [*todo.overrides, quoted("hydra.sweep.dir", where)])
    finally:  # also of what an interruption left
        if not todo.known:
            _write_cells(where, head, _found(where))
        if any(where.rglob("metrics.json")):
            page = report([where])
            _compare(where, todo)
    return 1 if page is None or any(where.rglob(ERROR_FILE)) else 0


def _compare(where: Path, todo: Plan) -> None:
    """Print the results and where the files are."""
    if todo.cells[0].cfg.verbosity == 0:
        return
    try:
        from rich.console import Console

        from cl_fisher.reporting.table import print_comparison

        print_comparison([where], Console())
    except Exception as error:  # the runs are on disk: a table that cannot be printed must not hide how they went
        print(f"cl-fisher: warning: no comparison: {type(error).__name__}: {error}", file=sys.stderr)


def _entry(cell: Cell) -> dict[str, object]:
    own = {"n_tasks": cell.cfg.n_tasks, "seed": cell.cfg.seed}
    return {"folder": cell.folder, "overrides": list(cell.overrides), "choices": cell.choices | own}


def _found(where: Path) -> list[dict[str, object]]:
    """The cells of a sweeper that made them up as it went."""
    paths = sorted(where.rglob("metrics.json"))
    overrides = [json.loads(path.read_text(encoding="utf-8")).get("overrides", []) for path in paths]
    return [
        {"folder": path.parent.relative_to(where).as_posix(), "overrides": own}
        for path, own in zip(paths, overrides, strict=True)
    ]


def _write_cells(where: Path, head: dict[str, str], cells: list[dict[str, object]]) -> None:
    temporary = where / "multirun.json.tmp"
    temporary.write_text(json.dumps({**head, "cells": cells}, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, where / "multirun.json")
