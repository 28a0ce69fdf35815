"""Error against cost."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cl_fisher.reporting.theme import COLORS
from fisher_accuracy.error import CHAINS, DRAWN, EPOCHS
from fisher_accuracy.table import Row

LOOKS = {
    "monte_carlo": ("vermillion", "o"),
    "signs": ("purple", "s"),
    "stratified": ("blue", "D"),
    "empirical": ("ochre", "^"),
    "argmax": ("brown", "v"),
    "batched_empirical": ("slate", "X"),
}
FLOOR = 1e-3
"""Errors below are rounding: such estimates are exact, and are drawn here."""
TICKS = (1.25, 1.5, 2, 2.5, 3)


def draw(rows: list[Row], path: Path) -> None:
    mpl.rcParams.update({"font.size": 12, "text.color": COLORS["ink"][0], "axes.edgecolor": COLORS["muted"][0]})
    figure = Figure(figsize=(11, 5.4), layout="constrained")
    panels = figure.subplots(1, len(EPOCHS), sharey=True, sharex=True)
    for panel, epochs in zip(panels, EPOCHS, strict=True):
        of_network(panel, {(r["estimator"], r["K"]): r for r in rows if r["epochs"] == str(epochs)})
        panel.set_title(f"after {epochs} epoch{'s' * (epochs > 1)}")
    panels[0].set_ylabel("relative L2 error of the diagonal")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def of_network(panel: Axes, table: dict[tuple[str, str], Row]) -> None:
    for name, (color, marker) in LOOKS.items():
        keys = [(name, str(k)) for k in CHAINS] if name in DRAWN else [(name, "")]
        points = [(float(table[key]["cost"]), max(FLOOR, float(table[key]["error"])), key[1]) for key in keys]
        style = {"color": COLORS[color][0], "marker": marker, "markersize": 7, "linewidth": 2}
        panel.plot([p[0] for p in points], [p[1] for p in points], label=name, **style)
        for x, y, k in points:
            place = (-10, -13) if name == "stratified" else (0, 8)
            panel.annotate(k, (x, y), place, textcoords="offset points", ha="center", color=COLORS[color][0])
    cost = float(table["exact", ""]["cost"])
    panel.axvline(cost, color=COLORS["green"][0], linestyle="--", linewidth=2, label="exact")
    panel.set(xscale="log", yscale="log", ylim=(0.6 * FLOOR, 1.5), xlabel="cost, in plain forward and backward passes")
    panel.set_xticks(TICKS, [f"{t:g}" for t in TICKS])
    panel.set_xticks([], minor=True)
    panel.grid(color=COLORS["grid"][0])
    panel.set_axisbelow(True)
