"""Tables in the terminal, and comparison.csv."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from cl_fisher.error import InputError
from cl_fisher.reporting.aggregate import Estimate, Group, group_runs
from cl_fisher.reporting.glossary import METRICS, SECONDS, UNDEFINED
from cl_fisher.reporting.read import Run, Source, read_source

_ONE_LINE = 110


def read_sources(folders: Sequence[Path]) -> list[Source]:
    """Read each folder once.

    Raises:
        InputError: if there is no folder, or if one is neither a run nor a multirun.
    """
    if not folders:
        raise InputError("no folder is given: name at least one run or multirun folder, such as outputs/run/DATE/TIME")
    return [read_source(folder) for folder in dict.fromkeys(Path(folder) for folder in folders)]


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
        console.print(_matrix_table(groups[0]))
        console.print(_metric_table(runs[0]))
    else:
        console.print(_comparison_table(groups, stacked=console.width < _ONE_LINE))
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
        for metric in (*METRICS, SECONDS):
            estimate, key = group.estimate(metric.key), metric.key.replace(".", "_")
            row |= {key: estimate.mean, f"{key}_ci95": estimate.half_width, f"{key}_n": estimate.n}
        rows.append(row)
    pd.DataFrame(rows).to_csv(path, index=False)


def name(run: Run) -> str:
    """How a person finds the run: its folder's name, and what was typed for it unless the name says so."""
    known = all(override in run.folder.name for override in run.overrides)
    return run.folder.name if known else f"{run.folder.name} ({' '.join(run.overrides)})"


def _comparison_table(groups: Sequence[Group], stacked: bool) -> Table:
    """One row per group; `stacked` puts each half-width below its mean, which fits into 80 columns."""
    table = Table(
        title="Test set: mean over seeds ± half of the 95 % interval, accuracies in %",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column("", overflow="fold")
    for metric in (*METRICS, SECONDS):
        table.add_column(metric.name.replace(" ", "\n"), justify="right")
    table.add_column("Seeds", justify="right")
    for group in groups:
        cells = [metric.text(group.estimate(metric.key)) for metric in (*METRICS, SECONDS)]
        cells = [cell.replace(" ± ", "\n± ") for cell in cells] if stacked else cells
        table.add_row(Text(group.label), *cells, f"{len(group.counted)}/{len(group.runs)}")
    return table


def _matrix_table(group: Group) -> Table:
    rows = group.matrix()
    table = Table(
        title=f"{escape(group.label)}: accuracy on the test set (%)",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("after task", justify="right")
    for task in range(1, max((len(row) for row in rows.values()), default=0) + 1):
        table.add_column(f"task {task}", justify="right")
    for after, row in rows.items():
        table.add_row(str(after), *(UNDEFINED if value is None else f"{100 * value:.1f}" for value in row))
    return table


def _metric_table(run: Run) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    for metric in (*METRICS, SECONDS):
        value = run.number(metric.key)
        text = metric.text(Estimate(() if value is None else (value,)))
        table.add_row(metric.name, Text(text if value is None else f"{text} {metric.unit}", justify="right"))
    return table
