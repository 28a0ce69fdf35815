"""A sweep over one number, such as the strength: which key that is, and which groups form a line."""

from collections.abc import Sequence
from dataclasses import dataclass

from cl_fisher.reporting.aggregate import Group

LOG_FROM = 100
"""Values that span more than this factor are drawn on a logarithmic scale."""


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
        return self.values[0] >= 0 and len(positive) > 1 and positive[-1] > LOG_FROM * positive[0]


def axis(groups: Sequence[Group]) -> Axis | None:
    """The one numeric key with three values or more; None if there is none, or more than one."""
    keys = list(dict.fromkeys(key for group in groups for key in group.settings))
    numeric = [key for key in keys if len(_numbers(groups, key)) >= 3]
    if len(numeric) != 1:
        return None
    (key,) = numeric
    lines: dict[str, list[tuple[float, Group]]] = {}
    for group in groups:
        if key in group.settings:
            lines.setdefault(_others(group, key), []).append((float(group.settings[key]), group))
    return Axis(key, {name: sorted(line, key=lambda point: point[0]) for name, line in lines.items()})


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
