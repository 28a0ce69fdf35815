"""What a chart must say itself once it is a file: on the page its title, legend and axis names stand around it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cl_fisher.reporting.label import wrapped
from cl_fisher.reporting.theme import COLORS, Style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_PIXELS = 2500
"""Of a PNG file's longer side: the matrix of fifty tasks would be 20 megapixels."""
_ROOM = 50  # characters of a line
_MARGIN = 0.1  # inches


@dataclass(frozen=True)
class Caption:
    """The words around a chart."""

    title: str
    x: str = ""
    y: str = ""
    legend: Sequence[tuple[str, Style]] = ()
    """Of lines; of a single one it would say nothing new."""


def save_png(figure: "Figure", caption: Caption, path: Path) -> None:
    """Write the chart with its caption. The figure has the words from then on, outside of what it was before."""
    from matplotlib.lines import Line2D
    from matplotlib.transforms import ScaledTranslation

    (axes,) = figure.axes
    ink = COLORS["ink"][0]
    axes.set_title(wrapped(caption.title, _ROOM), loc="left", fontsize=9, color=ink, parse_math=False)
    if caption.x:
        axes.set_xlabel(caption.x, fontsize=8, color=ink, parse_math=False)
    if caption.y:
        axes.set_ylabel(caption.y, fontsize=8, color=ink, parse_math=False)
    if len(caption.legend) > 1:
        labels = [wrapped(label, _ROOM) for label, _ in caption.legend]
        handles = [Line2D([], [], color=style.color, ls=style.dash, lw=1.6) for _, style in caption.legend]
        below = axes.transAxes + ScaledTranslation(0, -0.4, figure.dpi_scale_trans)
        columns = max(1, _ROOM // (max(map(len, labels)) + 8))
        legend = axes.legend(handles, labels, loc="upper left", bbox_to_anchor=(0, 0), bbox_transform=below,
                             borderaxespad=0, borderpad=0, frameon=False, fontsize=8, ncols=columns)  # fmt: skip
        for text in legend.get_texts():
            text.set_parse_math(False)  # a dollar sign in an override is no formula
    box = figure.get_tightbbox().padded(_MARGIN)
    figure.savefig(path, dpi=min(200, MAX_PIXELS / max(box.width, box.height)), bbox_inches=box)
