"""Rows as CSV files and as Markdown."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

Row = dict[str, str]


def texts(rows: Iterable[dict]) -> list[Row]:
    """As they stand in a CSV file, so that tables are the same whether they come from there or from a measurement."""
    return [{k: f"{v:.5g}" if isinstance(v, float) else str(v) for k, v in row.items()} for row in rows]


def write(rows: Sequence[Row], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read(path: Path) -> list[Row]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def markdown(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *body])


def targets(body: Iterable[tuple[str, str, str, bool]]) -> str:
    """What, measured, target, whether it is met."""
    rows = [(what, measured, target, "PASS" if met else "MISSED") for what, measured, target, met in body]
    return markdown(["target", "measured", "wanted", ""], rows)


def short(value: str | float, digits: int = 3) -> str:
    """A number to be read: 0.0153, 4.2e-08, 1,250."""
    x = float(value)
    if x != 0 and abs(x) < 1e-4:
        return f"{x:.1e}"
    if abs(x) >= 1000:
        return f"{float(f'{x:.{digits}g}'):,.0f}"
    return f"{x:.{digits}g}"
