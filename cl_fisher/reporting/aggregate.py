"""Groups runs that differ only in their seed, and averages over the seeds."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev

import pandas as pd
from scipy.special import stdtrit

from cl_fisher.reporting.read import Run, lookup

SEQUENCE = ("benchmark", "dataset", "scenario", "n_tasks")
"""Every run records these. Runs that differ in one are never of one group, whatever was typed."""


@dataclass(frozen=True)
class Estimate:
    """The values of one metric, one per seed."""

    values: tuple[float, ...]

    @property
    def n(self) -> int:
        """How many seeds have a value."""
        return len(self.values)

    @property
    def mean(self) -> float | None:
        """Mean over seeds; None without a value."""
        return fmean(self.values) if self.values else None

    @property
    def half_width(self) -> float | None:
        """Half the width of Student's 95 % confidence interval of the mean; None for fewer than two seeds."""
        if self.n < 2:
            return None
        return float(stdtrit(self.n - 1, 0.975)) * stdev(self.values) / math.sqrt(self.n)


@dataclass(frozen=True)
class Group:
    """Runs that differ only in their seed."""

    label: str
    strategy: str
    runs: tuple[Run, ...]
    counted: tuple[Run, ...]
    """The runs that the averages are over: finished, one per seed."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """The strategy, and what else tells this group from the others compared."""

    def estimate(self, key: str) -> Estimate:
        """The metric at a dotted key of metrics.json."""
        values = (run.number(key) for run in self.counted)
        return Estimate(tuple(value for value in values if value is not None))

    def by_seed(self, key: str) -> dict[str, float]:
        """The metric at a dotted key of metrics.json, by seed."""
        values = {run.seed: run.number(key) for run in self.counted}
        return {seed: value for seed, value in values.items() if value is not None}

    def matrix(self, split: str = "test") -> dict[int, list[float | None]]:
        """The accuracy matrix, each entry averaged over the seeds that have it."""
        matrices = [run.matrix(split) for run in self.counted]
        return {
            after: [mean_known(column) for column in zip(*(m[after] for m in matrices if after in m), strict=False)]
            for after in sorted({after for matrix in matrices for after in matrix})
        }

    @property
    def is_joint(self) -> bool:
        """Whether all tasks were trained on together; False as long as no run counts."""
        return bool(self.counted) and all(run.is_joint for run in self.counted)

    def course(self) -> pd.DataFrame:
        """Mean test accuracy: one row per after_task from 0, one column per task."""
        frames = [run.accuracy for run in self.counted if not run.accuracy.empty]
        if not frames:
            return pd.DataFrame()
        return pd.concat(frames).groupby(["after_task", "task"])["accuracy"].mean().unstack("task")

    @property
    def repeated(self) -> tuple[Run, ...]:
        """Finished runs that do not count because a later one has the same seed."""
        return tuple(run for run in self.runs if run.status == "finished" and run not in self.counted)


def mean_known(values: Sequence[float | None]) -> float | None:
    """Mean of the values that are known; None if none is."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Groups in the order of their first run; a run without overrides is described by its configuration.

    A label is the strategy's name and those settings that vary between the groups: what was typed, and of `SEQUENCE`
    what else it takes to tell them apart. A single run counts however far it came; among several only the finished
    ones do.
    """
    typed = list(dict.fromkeys(["strategy", *(key for run in runs for key in run.settings if key != "seed")]))
    keys = list(dict.fromkeys([*typed, *SEQUENCE]))
    described = [tuple(_setting(run, key) for key in keys) for run in runs]
    recorded = [values for run, values in zip(runs, described, strict=True) if run.metrics]
    members: dict[tuple[str, ...], list[Run]] = {}
    for run, values in zip(runs, described, strict=True):
        where = values if run.metrics else next((o for o in recorded if _may_be(values, o, keys)), values)
        members.setdefault(where, []).append(run)
    varying = [i for i in range(1, len(typed)) if len({values[i] for values in members}) > 1]
    for i in range(len(typed), len(keys)):
        if _n_told_apart(members, [0, *varying, i]) > _n_told_apart(members, [0, *varying]):
            varying.append(i)
    groups = []
    for values, group in members.items():
        extras = [f"{keys[i]}={values[i]}" for i in varying if values[i]]
        by_seed = {run.seed: run for run in group if run.status == "finished"}
        counted = [run for run in runs if run.metrics] if len(runs) == 1 else list(by_seed.values())
        label = ", ".join([values[0] or "run", *extras])
        settings = {"strategy": values[0], **{keys[i]: values[i] for i in varying if values[i]}}
        groups.append(Group(label, values[0], tuple(group), tuple(counted), settings))
    return groups


def _may_be(planned: Sequence[str], recorded: Sequence[str], keys: Sequence[str]) -> bool:
    """Whether a cell that never began is of the group of one that did; of its tasks an old multirun says little."""
    return all(
        mine == theirs or (not mine and key in SEQUENCE)
        for mine, theirs, key in zip(planned, recorded, keys, strict=True)
    )


def _n_told_apart(members: Collection[Sequence[str]], places: Sequence[int]) -> int:
    return len({tuple(values[i] for i in places) for values in members})


def _setting(run: Run, key: str) -> str:
    """What the run has at `key`: as typed, else as chosen or configured by default; empty if it has no such key."""
    found = (run.settings.get(key), run.metrics.get(key), run.choices.get(key), lookup(run.config, key))
    value = next((value for value in found if value is not None), None)
    if value is None:
        parent, _, name = key.rpartition(".")
        holder = lookup(run.config, parent) if parent else run.config
        return "null" if isinstance(holder, dict) and name in holder else ""
    return "" if isinstance(value, dict) else _text(value)


def _text(value: object) -> str:
    """The same for what was typed, such as "[16, 1e-3]" or "True", and for what is meant by it."""
    text = "null" if value is None else str(value).strip()
    if text.startswith("[") and text.endswith("]"):
        items = value if isinstance(value, list) else text[1:-1].split(",")
        return f"[{','.join(map(_text, items))}]"
    if text.lower() in ("true", "false", "null"):
        return text.lower()
    try:
        return f"{float(text):.12g}"
    except ValueError:
        return text
