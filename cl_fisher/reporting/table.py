"""What is printed after a run and by `cl-fisher report`."""

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from cl_fisher.error import InputError
from cl_fisher.reporting.aggregate import Estimate, Group, group_runs
from cl_fisher.reporting.fitted import fitted, width_of
from cl_fisher.reporting.glossary import METRICS, SECONDS, UNDEFINED, known
from cl_fisher.reporting.publish import FILES
from cl_fisher.reporting.read import Run, Source, read_source
from cl_fisher.reporting.reference import completed
from cl_fisher.reporting.sheet import Sheet, paired, ranks, results

_COLUMNS = (*METRICS, SECONDS)
_LEAVE_OUT = ("FWT", "BWT", "Learning accuracy", "Seconds")
"""What a narrow terminal does without, in this order; of other tables it leaves out the last columns first."""
_MOST_PAIRS = 15
"""Printed; pairs.csv has all."""


def read_sources(folders: Sequence[Path]) -> list[Source]:
    """Read each folder once.

    Raises:
        InputError: if there is no folder, or if one is neither a run nor a multirun.
    """
    if not folders:
        raise InputError("no folder is given: name at least one run or multirun folder, such as outputs/run/DATE/TIME")
    return completed([read_source(folder) for folder in dict.fromkeys(Path(folder) for folder in folders)])


def print_comparison(folders: Sequence[Path], console: Console | None = None, out: Path | None = None) -> None:
    """Print the comparison of several runs, or the accuracy matrix of a single one, and where the files are.

    Args:
        folders: Run folders and multirun folders.
        console: Where to print.
        out: Where `write_report` wrote, if not into the folder itself.

    Raises:
        InputError: if a folder is neither a run nor a multirun.
    """
    console = console or Console()
    sources = read_sources(folders)
    runs = [run for source in sources for run in source.runs]
    groups = group_runs(runs)
    if len(runs) == 1:
        matrix = _matrix_table(groups[0])
        shown = matrix if width_of(matrix, console) <= console.width else _task_table(groups[0])
        shown.width = width_of(shown, console)
        console.print(shown, crop=False)
        console.print(_metric_table(groups[0], runs[0]))
    else:
        console.print(fitted(results(groups, _COLUMNS), console, _LEAVE_OUT), crop=False)
        for sheet in _further(groups):
            console.print(fitted(sheet, console, sheet.header[:1:-1]), crop=False)
    for run in runs:
        if run.status != "finished":
            reason = f": {run.error.strip().splitlines()[-1]}" if run.error.strip() else ""
            console.print(f"[bold red]{run.status}[/] {escape(name(run) + reason)}", highlight=False, soft_wrap=True)
    for folder in [out] if out is not None else [source.folder for source in sources]:
        names = ("report.html", *(FILES if len(runs) > 1 else ()))
        for path in (folder, *(folder / name for name in names)):
            if path.exists():
                console.print(Text(str(path)), soft_wrap=True)


def name(run: Run) -> str:
    """How a person finds the run: its folder's name, and what was typed for it unless the name says so."""
    known = all(override in run.folder.name for override in run.overrides)
    return run.folder.name if known else f"{run.folder.name} ({' '.join(run.overrides)})"


def _matrix_table(group: Group) -> Table:
    """A row per evaluation, a column per task."""
    rows = group.matrix()
    n_tasks = max((len(row) for row in rows.values()), default=0)
    cells = [["all" if group.is_joint else str(after), *map(_percent, row)] for after, row in rows.items()]
    return _percent_table(group, ["after task", *(f"task {task}" for task in range(1, n_tasks + 1))], cells)


def _task_table(group: Group) -> Table:
    """A row per task: what is left of a matrix that is too wide."""
    rows = group.matrix()
    last = next(reversed(rows.values()), [])
    cells = [
        [str(task), _percent(rows[task][task - 1] if task in rows and not group.is_joint else None), _percent(value)]
        for task, value in enumerate(last, start=1)
    ]
    return _percent_table(group, ["task", "right after it", "at the end"], cells)


def _percent_table(group: Group, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    title = f"{escape(group.label)}: accuracy on the test set (%)"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in header:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def _percent(value: float | None) -> str:
    return UNDEFINED if value is None else f"{100 * value:.1f}"


def _further(groups: Sequence[Group]) -> list[Sheet]:
    """What there is beside the main table."""
    metrics = known(groups)
    found = [results(groups, metrics) if metrics else None, ranks(groups), paired(groups, METRICS[0])]
    return [sheet for sheet in found if sheet is not None and (sheet is not found[2] or len(sheet.rows) <= _MOST_PAIRS)]


def _metric_table(group: Group, run: Run) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    for metric in (*_COLUMNS, *known([group])):
        value = run.number(metric.key)
        text = metric.text(Estimate(() if value is None else (value,)))
        table.add_row(metric.name, Text(text if value is None else f"{text} {metric.unit}", justify="right"))
    return table
