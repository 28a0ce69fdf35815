"""The comparison of several runs as files: CSV for programs, Markdown and LaTeX for papers."""

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cl_fisher.reporting.aggregate import Group
from cl_fisher.reporting.glossary import METRICS, SECONDS, known
from cl_fisher.reporting.paired import mean_ranks, pairs
from cl_fisher.reporting.sheet import Sheet, paired, ranks, results

FILES = ("comparison.csv", "comparison.md", "comparison.tex", "pairs.csv")
PAIR_COLUMNS = ("metric", "first", "second", "n", "difference", "ci95", "p", "p_holm")
_LATEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "\N{MINUS SIGN}": "$-$",
    "\N{EN DASH}": "--",
}
_MARKDOWN = re.compile(r"[\\`*|$]|<(?=\S)|\b_|_\b")
"""What would be markup; an underscore within a word is none, nor is what is less than a number."""


def write_files(groups: Sequence[Group], folder: Path) -> None:
    """Write `FILES`."""
    write_comparison(groups, folder / "comparison.csv")
    write_pairs(groups, folder / "pairs.csv")
    everything = (*METRICS, *known(groups), SECONDS)
    found = [results(groups, everything), ranks(groups), *(paired(groups, metric) for metric in METRICS[:3])]
    sheets = [sheet for sheet in found if sheet is not None]
    (folder / "comparison.md").write_text("\n".join(map(markdown, sheets)), encoding="utf-8")
    (folder / "comparison.tex").write_text(
        "% needs \\usepackage{booktabs}\n\n" + "\n".join(map(latex, sheets)), encoding="utf-8"
    )


def write_comparison(groups: Sequence[Group], path: Path) -> None:
    """One row per group: mean, half-width of the 95 % interval, n and mean rank of each metric; fractions, seconds."""
    metrics = (*METRICS, *known(groups), SECONDS)
    by_metric = {metric.key: mean_ranks(groups, metric) for metric in metrics}
    rows = []
    for group in groups:
        row: dict[str, object] = {
            "group": group.label,
            "strategy": group.strategy,
            "n_seeds": len(group.counted),
            "seeds": " ".join(run.seed for run in group.counted),
            "failed_or_missing": " ".join(run.folder.name for run in group.runs if run.status != "finished"),
        }
        for metric in metrics:
            estimate, key = group.estimate(metric.key), metric.key.replace(".", "_")
            row |= {key: estimate.mean, f"{key}_ci95": estimate.half_width, f"{key}_n": estimate.n}
            row[f"{key}_rank"] = by_metric[metric.key].get(group.label)
        rows.append(row)
    pd.DataFrame(rows).to_csv(path, index=False)


def write_pairs(groups: Sequence[Group], path: Path) -> None:
    """One row per metric and pair of groups; differences as fractions, empty for fewer than two seeds."""
    rows = [
        (p.metric.key, p.first, p.second, p.n, p.difference, p.half_width, p.p, p.p_holm)
        for metric in (*METRICS, *known(groups), SECONDS)
        for p in pairs(groups, metric)
    ]
    pd.DataFrame(rows, columns=list(PAIR_COLUMNS)).to_csv(path, index=False)


def markdown(sheet: Sheet) -> str:
    """A pipe table under its title."""
    cells = [[_MARKDOWN.sub(r"\\\g<0>", cell.replace("\n", " ")) for cell in row] for row in sheet.rows]
    for i, j in sheet.bold:
        cells[i][j] = f"**{cells[i][j]}**"
    rule = ["---", *["---:"] * (len(sheet.header) - 1)]
    lines = [f"| {' | '.join(row)} |" for row in (sheet.header, rule, *cells)]
    return "\n".join([f"{sheet.title}.", "", *lines, ""])


def latex(sheet: Sheet) -> str:
    """A table environment in booktabs style."""
    cells = [[escape(cell) for cell in row] for row in sheet.rows]
    for i, j in sheet.bold:
        cells[i][j] = rf"\textbf{{{cells[i][j]}}}"
    lines = [rf"{' & '.join(row)} \\" for row in cells]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape(sheet.title)}.}}",
            rf"\begin{{tabular}}{{l{'r' * (len(sheet.header) - 1)}}}",
            r"\toprule",
            rf"{' & '.join(map(escape, sheet.header))} \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def escape(text: str) -> str:
    """Text as LaTeX prints it."""
    return re.sub("|".join(map(re.escape, _LATEX)), lambda found: _LATEX[found[0]], text.replace("\n", " "))
