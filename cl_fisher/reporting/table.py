"""Tables in the terminal, and comparison.csv."""

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from cl_fisher.error import InputError
from cl_fisher.reporting.aggregate import Estimate, Group, group_runs
from cl_fisher.reporting.glossary import METRICS, SECONDS, UNDEFINED, Metric
from cl_fisher.reporting.read import Run, Source, read_source
from cl_fisher.reporting.reference import completed

_COLUMNS = (*METRICS, SECONDS)
_LEAVE_OUT = ("fwt", "bwt", "learning_accuracy", "seconds.total")
"""What a narrow terminal does without, in this order."""


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
        shown = matrix if _width(matrix, console) <= console.width else _task_table(groups[0])
        shown.width = _width(shown, console)
        console.print(shown, crop=False)
        console.print(_metric_table(runs[0]))
    else:
        console.print(_fitted_comparison(groups, console), crop=False)
    for run in runs:
        if run.status != "finished":
            reason = f": {run.error.strip().splitlines()[-1]}" if run.error.strip() else ""
            console.print(f"[bold red]{run.status}[/] {escape(name(run) + reason)}", highlight=False, soft_wrap=True)
    for folder in [out] if out is not None else [source.folder for source in sources]:
        for path in (folder, folder / "report.html", folder / "comparison.csv"):
            if path.exists():
                console.print(Text(str(path)), soft_wrap=True)


def write_comparison(groups: Sequence[Group], path: Path) -> None:
    """One row per group: mean, half-width of the 95 % interval and n of each metric, as fractions and seconds."""
    rows = []
    for group in groups:
        row: dict[str, object] = {
            "group": group.label,
            "strategy": group.strategy,
            "n_seeds": len(group.counted),
            "seeds": " ".join(run.seed for run in group.counted),
            "failed_or_missing": " ".join(run.folder.name for run in group.runs if run.status != "finished"),
        }
        for metric in _COLUMNS:
            estimate, key = group.estimate(metric.key), metric.key.replace(".", "_")
            row |= {key: estimate.mean, f"{key}_ci95": estimate.half_width, f"{key}_n": estimate.n}
        rows.append(row)
    pd.DataFrame(rows).to_csv(path, index=False)


def name(run: Run) -> str:
    """How a person finds the run: its folder's name, and what was typed for it unless the name says so."""
    known = all(override in run.folder.name for override in run.overrides)
    return run.folder.name if known else f"{run.folder.name} ({' '.join(run.overrides)})"


def _fitted_comparison(groups: Sequence[Group], console: Console) -> Table:
    """The widest table that the console has room for; no word or number is ever broken."""
    longest = max(len(piece) for group in groups for piece in _pieces(group.label))
    for stacked, n in [(False, 0), *((True, n) for n in range(len(_LEAVE_OUT) + 1))]:
        metrics = [metric for metric in _COLUMNS if metric.key not in _LEAVE_OUT[:n]]
        room = console.width - _width(_comparison_table(groups, metrics, stacked, 0), console)
        if room >= longest:
            break
    table = _comparison_table(groups, metrics, stacked, max(room, longest))
    table.width = _width(table, console)  # sooner beyond the edge than through a word
    return table


def _comparison_table(groups: Sequence[Group], metrics: Sequence[Metric], stacked: bool, room: int) -> Table:
    """One row per group, its label in lines of at most `room` characters, or none if that is 0.

    `stacked` puts each half-width below its mean.
    """
    left_out = ", ".join(metric.name for metric in _COLUMNS if metric not in metrics)
    table = Table(
        title="Test set: mean over seeds ± half of the 95 % interval, accuracies in %",
        title_justify="left",
        caption=f"A wider terminal also shows: {left_out}" if left_out else None,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column("", no_wrap=True)
    for name in [*(metric.name.replace(" ", "\n") for metric in metrics), "Seeds"]:
        table.add_column(name, justify="right", no_wrap=True)
    for group in groups:
        cells = [metric.text(group.estimate(metric.key)) for metric in metrics]
        cells = [cell.replace(" ± ", "\n± ") for cell in cells] if stacked else cells
        label = Text("\n".join(_lines(group.label, room)) if room else "")
        table.add_row(label, *cells, f"{len(group.counted)}/{len(group.runs)}")
    return table


def _width(table: Table, console: Console) -> int:
    """The width that the table would have on an endless line."""
    return Measurement.get(console, console.options.update(width=100_000), table).maximum


def _pieces(label: str) -> list[str]:
    """Where a label may be broken: after ", " and after "="."""
    return [piece for part in re.split(r"(?<=,) ", label) for piece in re.split(r"(?<==)(?=.)", part)]


def _lines(label: str, room: int) -> list[str]:
    """The label in lines of at most `room` characters, setting by setting, if its longest piece fits."""
    lines = [""]
    for part in re.split(r"(?<=,) ", label):
        joined = f"{lines[-1]} {part}".lstrip()
        if len(joined) <= room:
            lines[-1] = joined
            continue
        for piece in [part] if len(part) <= room else _pieces(part):
            same_setting = piece is not part and lines[-1].endswith("=")
            if same_setting and len(lines[-1]) + len(piece) <= room:
                lines[-1] += piece
            else:
                lines.append(piece)
    return [line for line in lines if line]


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


def _metric_table(run: Run) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    for metric in _COLUMNS:
        value = run.number(metric.key)
        text = metric.text(Estimate(() if value is None else (value,)))
        table.add_row(metric.name, Text(text if value is None else f"{text} {metric.unit}", justify="right"))
    return table
