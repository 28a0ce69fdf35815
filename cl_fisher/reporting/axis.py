"""A sweep over a number, such as the strength: which key that is, and which groups form a line."""

from collections.abc import Sequence
from dataclasses import dataclass

from cl_fisher.reporting.aggregate import Group

LOG_FROM = 10
"""Values that span this factor or more are drawn on a logarithmic scale."""
FIRST = "strategy.strength"
"""The key that is the axis where another one has as many values."""


@dataclass(frozen=True)
class Axis:
    """The key, and for each combination of what else varies its groups by the key's value, in rising order."""

    key: str
    lines: dict[str, list[tuple[float, Group]]]

    @property
    def values(self) -> list[float]:
        """All values of the key."""
        return sorted({value for line in self.lines.values() for value, _ in line})

    @property
    def is_log(self) -> bool:
        """Whether the positive values span so much that a linear scale would crowd them."""
        positive = [value for value in self.values if value > 0]
        return self.values[0] >= 0 and len(positive) > 1 and positive[-1] >= LOG_FROM * positive[0]


def axis(groups: Sequence[Group]) -> Axis | None:
    """The numeric key with most values; None if none makes a line of three, as where all else varies with it."""
    keys = dict.fromkeys(key for group in groups for key in group.settings)
    n_values = {key: len(numbers) for key in keys if (numbers := _numbers(groups, key))}
    for key in sorted(n_values, key=lambda name: (n_values[name], name == FIRST), reverse=True):
        lines: dict[str, list[tuple[float, Group]]] = {}
        for group in groups:
            if key in group.settings:
                lines.setdefault(_others(group, key), []).append((float(group.settings[key]), group))
        if max(map(len, lines.values())) >= 3:
            return Axis(key, {name: sorted(line, key=lambda point: point[0]) for name, line in lines.items()})
    return None


def _others(group: Group, key: str) -> str:
    others = [
        (value or "run") if name == "strategy" else f"{name}={value}"
        for name, value in group.settings.items()
        if name != key
    ]
    return ", ".join(others)


def _numbers(groups: Sequence[Group], key: str) -> set[float]:
    """The distinct values at `key`; empty if one of them is no number."""
    try:
        return {float(group.settings[key]) for group in groups if key in group.settings}
    except ValueError:
        return set()
