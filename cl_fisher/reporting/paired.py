"""Comparisons over the same seeds and tasks: paired t-tests, mean ranks, and which setting is best."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import fmean

from scipy.stats import rankdata, ttest_rel

from cl_fisher.reporting.aggregate import Group
from cl_fisher.reporting.glossary import Metric
from cl_fisher.reporting.read import TASKS

BOUNDS = ("joint", "cumulative", "independent")
"""Strategies that say what is possible, and do not compete."""
NOISE = 1e-12
"""Differences that spread no further than this are the same number, rounded."""


@dataclass(frozen=True)
class Pair:
    """One setting less another, over the seeds that both have."""

    metric: Metric
    first: str
    second: str
    n: int
    difference: float | None = None
    """Mean over seeds; None for fewer than two, as all below."""
    half_width: float | None = None
    """Half of its 95 % t-interval."""
    p: float | None = None
    """Of Student's paired t-test, two-sided; None too where all seeds differ by the same number."""
    p_holm: float | None = None
    """Corrected for all pairs that are compared on this metric (Holm 1979)."""


def comparable(groups: Sequence[Group]) -> list[list[Group]]:
    """The groups that learn the same tasks, together, in their order; without those of which no run counts."""
    parts: list[tuple[set[str], list[Group]]] = []
    for group in groups:
        tasks = _tasks(group)
        part = next((part for part in parts if part[0] & tasks), (set[str](), list[Group]()))
        if tasks and not part[1]:
            parts.append(part)
        part[0].update(tasks)
        part[1].append(group)
    return [members for _, members in parts]


def _tasks(group: Group) -> set[str]:
    """What its runs learn, by their resolved configurations; of runs that have none, by the settings."""
    told = str([pair for pair in group.settings.items() if re.split(r"[.@]", pair[0])[0] in TASKS])
    return {run.tasks or told for run in group.counted}


def pairs(groups: Sequence[Group], metric: Metric) -> list[Pair]:
    """Every two comparable groups that have the metric, in their order."""
    measured = [group for group in groups if group.estimate(metric.key).n]
    compared = (pair for part in comparable(measured) for pair in combinations(part, 2))
    found = [_pair(first, second, metric) for first, second in compared]
    corrected = holm([pair.p for pair in found])
    return [replace(pair, p_holm=p) for pair, p in zip(found, corrected, strict=True)]


def _pair(first: Group, second: Group, metric: Metric) -> Pair:
    a, b = first.by_seed(metric.key), second.by_seed(metric.key)
    seeds = [seed for seed in a if seed in b]
    pair = Pair(metric, first.label, second.label, len(seeds))
    if len(seeds) < 2:
        return pair
    differences = [a[seed] - b[seed] for seed in seeds]
    mean = fmean(differences)
    if max(differences) - min(differences) <= NOISE:
        return replace(pair, difference=mean, half_width=0.0, p=1.0 if abs(mean) <= NOISE else None)
    test = ttest_rel([a[seed] for seed in seeds], [b[seed] for seed in seeds])
    low, high = test.confidence_interval(0.95)
    return replace(pair, difference=mean, half_width=float(high - low) / 2, p=float(test.pvalue))


def holm(values: Sequence[float | None]) -> list[float | None]:
    """p-values corrected for their number, by Holm's step-down method; None stays and does not count."""
    order = sorted((p, i) for i, p in enumerate(values) if p is not None)
    corrected: list[float | None] = [None] * len(values)
    largest = 0.0
    for rank, (p, i) in enumerate(order):
        largest = max(largest, min(1.0, p * (len(order) - rank)))
        corrected[i] = largest
    return corrected


def contenders(groups: Sequence[Group]) -> list[Group]:
    """Of comparable groups those that are no bounds; all of them if that leaves nothing to compare."""
    free = [group for group in groups if group.strategy not in BOUNDS]
    return free if len(free) > 1 else list(groups)


def mean_ranks(groups: Sequence[Group], metric: Metric) -> dict[str, float]:
    """By label: the rank among the contenders (1 is best, ties share theirs), averaged over the seeds of all of them.

    Without those that have nothing to be ranked against, or fewer than two seeds to do so.
    """
    return {label: rank for part in comparable(groups) for label, rank in _mean_ranks(part, metric).items()}


def _mean_ranks(groups: Sequence[Group], metric: Metric) -> dict[str, float]:
    measured = [(group.label, group.by_seed(metric.key)) for group in contenders(groups)]
    measured = [(label, values) for label, values in measured if values]
    seeds = set.intersection(*(set(values) for _, values in measured)) if measured else set()
    if len(measured) < 2 or len(seeds) < 2 or metric.sign == 0:
        return {}
    ranks = [rankdata([-metric.sign * values[seed] for _, values in measured]) for seed in sorted(seeds)]
    return {label: fmean(float(row[i]) for row in ranks) for i, (label, _) in enumerate(measured)}


def best(groups: Sequence[Group], metric: Metric) -> set[str]:
    """The labels of the contenders with the best mean; none if there is but one, or if no value is better."""
    return {label for part in comparable(groups) for label in _best(part, metric)}


def _best(groups: Sequence[Group], metric: Metric) -> set[str]:
    means = {group.label: group.estimate(metric.key).mean for group in contenders(groups)}
    known = {label: metric.sign * mean for label, mean in means.items() if mean is not None}
    if len(known) < 2 or metric.sign == 0:
        return set()
    return {label for label, value in known.items() if value >= max(known.values()) - NOISE}
