"""What was measured, as rows of a CSV file and of a table."""

import csv
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path


@dataclass
class Row:
    """One method on one case; None where there is no such figure."""

    case: str
    library: str
    estimate: str
    batch: int | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    floor: float | None = None
    goal: float | None = None
    elsewhere: float | None = None
    error: float | None = None
    memory: float | None = None
    """Extra MiB over that of a training step of the same batch."""
    extra_mib: float | None = None
    remark: str = ""


def write(rows: Iterable[Row], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(Row)], lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in asdict(row).items()})


def show(rows: Iterable[Row]) -> str:
    """A table that is also Markdown."""
    head = ["estimate", "library", "x plain (quartiles)", "floor", "goal", "error", "memory", "batch", "remark"]
    body = [_cells(row) for row in rows]
    widths = [max(len(line[i]) for line in [head, *body]) for i in range(len(head))]
    lines = [head, ["-" * w for w in widths], *body]
    return "\n".join("| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines)


def _cells(row: Row) -> list[str]:
    ratio = "" if row.ratio is None else f"{row.ratio:.2f} ({row.low:.2f}-{row.high:.2f})"
    goal = "" if row.goal is None else f"{row.goal:g} {_verdict(row)}".strip()
    return [
        row.estimate,
        row.library,
        ratio,
        "" if row.floor is None else f"{row.floor:.2f}",
        goal,
        "" if row.error is None else f"{row.error:.1e}",
        "" if row.memory is None else f"{row.memory:.2f}",
        "" if row.batch is None else str(row.batch),
        row.remark.replace("|", "/")[:110],
    ]


def _verdict(row: Row) -> str:
    if row.ratio is None or row.goal is None:
        return ""
    return "met" if row.ratio <= row.goal else "missed"
