"""A sheet as a table for a terminal of some width."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from cl_fisher.reporting.label import lines, pieces
from cl_fisher.reporting.sheet import Sheet


def fitted(sheet: Sheet, console: Console, leave_out: Sequence[str]) -> Table:
    """The widest table that the console has room for; no word or number is ever broken.

    `leave_out`: the columns that it does without if it must, in this order.
    """
    longest = max(len(piece) for row in sheet.rows for piece in pieces(row[0]))
    for stacked, n in [(False, 0), *((True, n) for n in range(len(leave_out) + 1))]:
        columns = [j for j, name in enumerate(sheet.header) if j > 0 and name not in leave_out[:n]]
        room = console.width - width_of(_table(sheet, columns, stacked, 0), console)
        if room >= longest:
            break
    table = _table(sheet, columns, stacked, max(room, longest))
    table.width = width_of(table, console)  # sooner beyond the edge than through a word
    return table


def _table(sheet: Sheet, columns: Sequence[int], stacked: bool, room: int) -> Table:
    """The label of each row in lines of at most `room` characters, or none if that is 0.

    `stacked` puts each half-width below its mean.
    """
    left_out = ", ".join(name for j, name in enumerate(sheet.header) if j > 0 and j not in columns)
    table = Table(
        title=sheet.title,
        title_justify="left",
        caption=f"A wider terminal also shows: {left_out}" if left_out else None,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column("", no_wrap=True)
    for j in columns:
        table.add_column(sheet.header[j].replace(" ", "\n"), justify="right", no_wrap=True)
    for i, row in enumerate(sheet.rows):
        cells = [row[j].replace(" ± ", "\n± ") if stacked else row[j] for j in columns]
        marked = [Text(cell, "bold" if (i, j) in sheet.bold else "") for j, cell in zip(columns, cells, strict=True)]
        table.add_row(Text("\n".join(lines(row[0], room)) if room else ""), *marked)
    return table


def width_of(table: Table, console: Console) -> int:
    """The width that the table would have on an endless line."""
    return Measurement.get(console, console.options.update(width=100_000), table).maximum
