"""The tables of a comparison, free of any format: results, mean ranks, paired differences."""

from collections.abc import Sequence
from dataclasses import dataclass

from cl_fisher.reporting.aggregate import Group
from cl_fisher.reporting.glossary import METRICS, SECONDS, UNDEFINED, Metric, known
from cl_fisher.reporting.paired import Pair, best, comparable, mean_ranks, pairs

RESULTS = "Test set: mean over seeds ± half of the 95 % interval, accuracies in %; bold: best but for the bounds"
RANKS = "Mean rank over seeds, 1 is best; the bounds do not compete"
AMONG = "; only settings that learn the same tasks are compared"
PAIRED = "{}: mean difference over the same seeds ± half of its 95 % interval, in points; bold: p < 0.05 after Holm"


@dataclass(frozen=True)
class Sheet:
    """Rows of text; the first column is a label."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    bold: frozenset[tuple[int, int]] = frozenset()
    """Row and column of the cells that stand out."""


def results(groups: Sequence[Group], metrics: Sequence[Metric]) -> Sheet:
    """A row per group, a column per metric; the best of each column stands out."""
    rows = tuple(
        (g.label, *(metric.text(g.estimate(metric.key)) for metric in metrics), f"{len(g.counted)}/{len(g.runs)}")
        for g in groups
    )
    winners = [best(groups, metric) if metric is not SECONDS else set() for metric in metrics]
    bold = {(i, j) for i, group in enumerate(groups) for j, won in enumerate(winners, start=1) if group.label in won}
    return Sheet(
        _title(RESULTS, groups), ("Setting", *(metric.name for metric in metrics), "Seeds"), rows, frozenset(bold)
    )


def ranks(groups: Sequence[Group]) -> Sheet | None:
    """A row per group that competes, a column per metric that ranks; None if there is nothing to rank."""
    found = {metric.name: mean_ranks(groups, metric) for metric in (*METRICS, *known(groups))}
    found = {name: by_label for name, by_label in found.items() if by_label}
    labels = [group.label for group in groups if any(group.label in by_label for by_label in found.values())]
    if not labels:
        return None
    values = [[by_label.get(label) for by_label in found.values()] for label in labels]
    rows = [(label, *map(_rank, row)) for label, row in zip(labels, values, strict=True)]
    bold = set()
    for part in comparable(groups):
        among = [i for i, label in enumerate(labels) if label in {group.label for group in part}]
        for j in range(len(found)):
            ranked = {i: rank for i in among if (rank := values[i][j]) is not None}
            bold |= {(i, j + 1) for i, rank in ranked.items() if rank == min(ranked.values())}
    return Sheet(_title(RANKS, groups), ("Setting", *found), tuple(rows), frozenset(bold))


def paired(groups: Sequence[Group], metric: Metric) -> Sheet | None:
    """A row per pair of groups; bold where the corrected p is below 0.05. None if no two share two seeds."""
    found = pairs(groups, metric)
    if not any(pair.n > 1 for pair in found):
        return None
    rows = tuple(
        (f"{p.first} \N{MINUS SIGN} {p.second}", _difference(p), _p(p.p), _p(p.p_holm), str(p.n)) for p in found
    )
    bold = {(i, j) for i, pair in enumerate(found) if pair.p_holm is not None and pair.p_holm < 0.05 for j in (1, 3)}
    header = ("Difference of", "Mean", "p", "p Holm", "Seeds")
    return Sheet(PAIRED.format(metric.name), header, rows, frozenset(bold))


def _title(text: str, groups: Sequence[Group]) -> str:
    return text + AMONG if len(comparable(groups)) > 1 else text


def _difference(pair: Pair) -> str:
    if pair.difference is None or pair.half_width is None:
        return UNDEFINED
    return f"{pair.metric.number(pair.difference)} ± {pair.metric.number(pair.half_width)}"


def _rank(value: float | None) -> str:
    return UNDEFINED if value is None else f"{value:.2f}"


def _p(value: float | None) -> str:
    if value is None:
        return UNDEFINED
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
