"""One self-contained HTML page from run folders: tables, charts, and all that it takes to run them again."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from cl_fisher.error import InputError
from cl_fisher.reporting.aggregate import Group, group_runs, mean_known
from cl_fisher.reporting.gallery import Gallery
from cl_fisher.reporting.glossary import METRICS, SECONDS, Metric, known
from cl_fisher.reporting.paired import best, comparable
from cl_fisher.reporting.publish import FILES, write_files
from cl_fisher.reporting.read import COSTS, Run, Source
from cl_fisher.reporting.sheet import paired, ranks
from cl_fisher.reporting.table import name, read_sources
from cl_fisher.reporting.theme import STRONG, variables

_PAIRED = METRICS[:3]
_GENERATOR = '<meta name="generator" content="cl_fisher">'
_TIMES = (
    Metric("seconds.train", "Training", "", "s"),
    Metric("seconds.fisher", "Fisher", "", "s"),
    Metric("seconds.eval", "Evaluation", "", "s"),
    Metric("seconds.total", "Total", "", "s"),
)


def write_report(folders: Sequence[Path], out: Path | None = None) -> Path:
    """Write report.html and plots/*.png, and the files of `publish` where several runs are compared.

    Of an earlier report in the same place nothing stays behind.

    Args:
        folders: Run folders, multirun folders, or both.
        out: Where to write; by default into the folder, if it is the only one.

    Returns:
        The path of report.html.

    Raises:
        InputError: if a folder is neither a run nor a multirun, or if there are several and no `out`.
    """
    sources = read_sources(folders)
    if out is None and len(sources) > 1:
        raise InputError(f"a report on {len(sources)} folders needs a place of its own: give it with -o OUT")
    folder = sources[0].folder if out is None else Path(out)
    path = folder / "report.html"
    earlier = _files_beside(path)
    page = _page(sources, folder / "plots")
    written = page["plots"]
    if len(page["runs"]) > 1:
        write_files(page["groups"], folder)
        written = written | {folder / name for name in FILES}
    environment = Environment(
        loader=PackageLoader("cl_fisher.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    path.write_text(environment.get_template("report.html.j2").render(page), encoding="utf-8")
    for file in earlier - written:
        file.unlink()
    return path


def _files_beside(report: Path) -> set[Path]:
    """What an earlier report in this place wrote beside its page; nothing if there is none, or none of ours."""
    if not report.is_file() or _GENERATOR not in report.read_text(encoding="utf-8", errors="replace"):
        return set()
    known = [report.parent / name for name in FILES]
    return {path for path in (*known, *(report.parent / "plots").glob("*.png")) if path.is_file()}


def _page(sources: Sequence[Source], plots: Path) -> dict[str, Any]:
    """All that the template shows."""
    runs = [run for source in sources for run in source.runs]
    groups = group_runs(runs)
    gallery = Gallery(plots, groups)
    metrics = [run.metrics for run in runs if run.metrics]
    return {
        "title": _title(groups, metrics),
        "facts": _facts(runs, metrics),
        "sources": sources,
        "runs": runs,
        "plots": gallery.files,
        "single": runs[0] if len(runs) == 1 else None,
        "problems": [run for run in runs if run.status != "finished"],
        "notes": _notes(runs, groups),
        "groups": groups,
        "styles": gallery.styles,
        "metrics": METRICS,
        "further": known(groups),
        "best": {metric.key: best(groups, metric) for metric in (*METRICS, *known(groups))},
        "ranks": ranks(groups) if len(runs) > 1 else None,
        "paired": [sheet for metric in _PAIRED if (sheet := paired(groups, metric)) is not None],
        "during": gallery.during(),
        "sweep": gallery.sweep(),
        "costs": [row for group in groups for row in _cost_rows(group)],
        "seconds": SECONDS,
        "validated": any(group.estimate("validation.avg_accuracy").n for group in groups),
        "headline": gallery.headline() if len(runs) > 1 else [],
        "matrices": gallery.matrices(),
        "panels": gallery.panels(),
        "regions": gallery.regions(),
        "curves": gallery.curves(),
        "shown": gallery.shown,
        "fisher": [row for group in groups for row in _fisher_rows(group)],
        "within_tasks": any(run.config.get("consolidate_every") for run in runs),
        "times": _TIMES,
        "versions": _versions(metrics),
        "run_name": name,
        "strong": STRONG,
        "themes": [variables(dark=False), variables(dark=True)],
    }


def _title(groups: Sequence[Group], metrics: Sequence[dict[str, Any]]) -> str:
    *first, last = [group.label for group in groups]
    names = f"{', '.join(first)} and {last}" if first else last
    many = len(groups) > (2 if any("," in group.label for group in groups) else 4)  # a list of lists is hard to read
    names = f"{len(groups)} settings" if many else names
    return " ".join([names, "on", *_common(metrics, "benchmark"), *_common(metrics, "dataset")]) if metrics else names


def _common(metrics: Sequence[dict[str, Any]], key: str) -> list[str]:
    """The distinct values at `key`, if there are few enough to read."""
    values = list(dict.fromkeys(str(m[key]) for m in metrics if m.get(key) is not None))
    return ["/".join(values)] if 0 < len(values) <= 3 else []


def _facts(runs: Sequence[Run], metrics: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The lines under the title."""
    seeds = list(dict.fromkeys(run.seed for run in runs if run.seed))
    parameters = sorted({int(m["n_parameters"]) for m in metrics if m.get("n_parameters") is not None})
    started = min((str(m["started"]) for m in metrics if m.get("started")), default="")
    facts = {
        "Scenario": "".join(f"{scenario}-incremental" for scenario in _common(metrics, "scenario")),
        "Tasks": "".join(_common(metrics, "n_tasks")),
        "Parameters": " to ".join(f"{n:,}" for n in dict.fromkeys((*parameters[:1], *parameters[-1:]))),
        "Seed" if len(seeds) == 1 else "Seeds": ", ".join(seeds),
        "Started": started[:16].replace("T", " "),
    }
    return {key: value for key, value in facts.items() if value}


def _notes(runs: Sequence[Run], groups: Sequence[Group]) -> list[str]:
    """What a reader must know before trusting the numbers."""
    notes = []
    if len(runs) == 1:
        notes.append("One run with one seed: nothing here says how much the numbers vary from seed to seed.")
    else:
        for group in groups:
            n = len(group.counted)
            if n < 3:
                what = ["no run has finished, so there is no number", "one seed, so there is no interval"]
                wide = "two seeds, so the interval is so wide that it says little"
                notes.append(f"{group.label}: {[*what, wide][n]}.")
            if group.repeated:
                seeds = ", ".join(run.seed for run in group.repeated)
                notes.append(f"{group.label}: seed {seeds} was run more than once; only the last one counts.")
        if len({frozenset(run.seed for run in group.counted) for group in groups if group.counted}) > 1:
            notes.append("Not all means are over the same seeds; the paired comparison takes those in common.")
        if len(comparable(groups)) > 1:
            notes.append("Not all settings learn the same tasks; only those that do are compared and ranked.")
        if any(run.status != "finished" for run in runs):
            notes.append("Averages are over finished runs only.")
    if len({str(sorted(run.metrics["versions"].items())) for run in runs if run.metrics.get("versions")}) > 1:
        notes.append("Not all runs were made with the same software or on the same machine; see Environment.")
    return notes


def _fisher_rows(group: Group) -> list[dict[str, Any]]:
    """One row per task, averaged over the seeds."""
    rows = []
    tables = [run.fisher for run in group.counted]
    for task in sorted({int(task) for table in tables for task in table["task"]}):
        records = [r for table in tables for r in table[table["task"] == task].to_dict("records")]
        row: dict[str, Any] = {"label": group.label, "task": task, "n": len(records)}
        for key in ("estimator", "structure"):
            row[key] = ", ".join(dict.fromkeys(str(record[key]) for record in records if key in record))
        for key in ("samples", "seconds", "bytes", "trace", "max", "check_cosine", "check_ratio"):
            values = [record.get(key) for record in records]
            row[key] = mean_known([v for v in values if isinstance(v, (int, float)) and math.isfinite(v)])
        rows.append(row)
    return rows


def _cost_rows(group: Group) -> list[dict[str, Any]]:
    """One row per task, averaged over the seeds; None where a killed run wrote half a row, or an old one less."""
    tables = [run.costs for run in group.counted if not run.costs.empty]
    if not tables:
        return []
    means = pd.concat(tables).groupby("task")[list(COSTS)].mean().reset_index()
    records = means.astype(object).where(means.notna(), None).to_dict("records")
    return [{"label": group.label, **{str(key): value for key, value in row.items()}} for row in records]


def _versions(metrics: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Each component's version; several where the runs differ."""
    found: dict[str, dict[str, None]] = {}
    for m in metrics:
        for key, value in (m.get("versions") or {}).items():
            found.setdefault(key, {})[str(value)] = None
    return {key: ", ".join(values) for key, values in found.items()}
