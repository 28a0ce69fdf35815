"""Colours of the report and its charts: after Okabe and Ito, so that colour-blind readers can tell them apart."""

from collections.abc import Sequence
from dataclasses import dataclass

from cl_fisher.reporting.aggregate import Group

# CSS variable -> (light, dark). No two light colours are equal: a chart is drawn in light and then recoloured by name.
COLORS = {
    "surface": ("#ffffff", "#14181d"),
    "ink": ("#181c20", "#e9edf1"),
    "muted": ("#59626c", "#a1acb7"),
    "grid": ("#dde2e7", "#333b44"),
    "blue": ("#0072b2", "#56b4e9"),
    "vermillion": ("#d55e00", "#f58a42"),
    "green": ("#008a64", "#2cc79b"),
    "purple": ("#b4568f", "#e39bc8"),
    "ochre": ("#a87000", "#f0b93a"),
    "sky": ("#2a8fc4", "#a5dcff"),
    "brown": ("#7a5230", "#c9a27e"),
    "slate": ("#6b7480", "#b9c2cc"),
}
HEAT = (("#eef5fb", "#0a4f8c"), ("#1d252e", "#5b96c4"))
"""Background of an accuracy of 0 and of 1, in light and in dark."""
STRONG = 0.745
"""From this accuracy on the text in a heat map changes colour; its contrast is at least 4.5:1 on either side."""

_SERIES = ["blue", "vermillion", "green", "purple", "ochre", "sky", "brown", "slate"]
_KNOWN = {"ewc": "blue", "finetune": "vermillion", "joint": "green", "online_ewc": "purple", "cumulative": "brown"}
_DASHES = ("-", (0, (4, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)))
_MARKERS = "osD^vPX*"


@dataclass(frozen=True)
class Style:
    """How a group is drawn in every chart."""

    name: str
    """A key of `COLORS`."""
    dash: str | tuple[int, tuple[float, ...]]
    marker: str

    @property
    def color(self) -> str:
        """The light colour."""
        return COLORS[self.name][0]


def styles(groups: Sequence[Group]) -> list[Style]:
    """One colour per strategy, and a dash for each of its groups; with one strategy only, one colour per group.

    Where a colour and dash would come twice, colours stand for no strategy: no two groups look the same, up to 32.
    """
    strategies = list(dict.fromkeys(group.strategy for group in groups))
    names = [group.strategy if len(strategies) > 1 else group.label for group in groups]
    colors = {name: _KNOWN[name] for name in names if name in _KNOWN}
    free = [color for color in _SERIES if color not in colors.values()] or _SERIES
    for name in dict.fromkeys(names):
        if name not in colors:
            colors[name] = free[(len(colors) - sum(known in _KNOWN for known in colors)) % len(free)]
    found = [
        Style(colors[name], _DASHES[names[:i].count(name) % len(_DASHES)], _MARKERS[i % len(_MARKERS)])
        for i, name in enumerate(names)
    ]
    return found if len({(style.name, style.dash) for style in found}) == len(found) else series(len(found))


def series(n: int) -> list[Style]:
    """Styles for lines that stand for no strategy, such as tasks: colours first, then dashes."""
    colors, dashes = len(_SERIES), len(_DASHES)
    return [Style(_SERIES[i % colors], _DASHES[i // colors % dashes], _MARKERS[i % len(_MARKERS)]) for i in range(n)]


def variables(dark: bool) -> dict[str, str]:
    """CSS variables of a theme."""
    low, high = HEAT[dark]
    return {name: pair[dark] for name, pair in COLORS.items()} | {"heat-low": low, "heat-high": high}
