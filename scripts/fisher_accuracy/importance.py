"""A few examples in place of all: drawn uniformly, or by how uncertain the network is about them."""

import statistics
from collections.abc import Callable

from torch import nn

from fisher_accuracy.networks import Part, data, diagonal, distance, ten_classes, zero_or_one
from fisher_accuracy.table import Row, markdown, short, targets

SIZES = (200, 500, 1000)
PAIR = "0 vs 1"


def measure(quick: bool, say: Callable[[str], None]) -> list[dict]:
    train, _ = data(quick)
    cases: dict[str, tuple[nn.Module, Part]] = {
        "10 classes, 1 epoch": (ten_classes(quick)[1], train),
        "10 classes, 4 epochs": (ten_classes(quick)[4], train),
        PAIR: zero_or_one(0, quick),
    }
    rows = []
    for name, (model, part) in cases.items():
        say(f"importance: {name}")
        exact = diagonal(model, part)
        for n in [size // 10 for size in SIZES] if quick else SIZES:
            errors: dict[str, list[float]] = {"uniform": [], "importance": []}
            for seed in range(1 if quick else 10):
                errors["uniform"].append(distance(diagonal(model, part.some(n, seed)), exact))
                drawn = diagonal(model, part, sampling="importance", samples=n, seed=seed)
                errors["importance"].append(distance(drawn, exact))
            rows += [
                {"network": name, "examples": len(part), "n": n, "sampling": sampling}
                | {"error": statistics.fmean(found), "error_max": max(found)}
                for sampling, found in errors.items()
            ]
    return rows


def show(rows: list[Row]) -> str:
    table = {(row["network"], int(row["n"]), row["sampling"]): row for row in rows}
    body = [
        [
            *(network, str(n)),
            *(
                short(table[network, n, way][what])
                for way in ("uniform", "importance")
                for what in ("error", "error_max")
            ),
        ]
        for network, n in dict.fromkeys(key[:2] for key in table)
    ]
    head = ["network", "n", "uniform, mean", "largest", "importance, mean", "largest"]
    middle = sorted({int(row["n"]) for row in rows})[1]

    def error(network: str, sampling: str) -> float:
        return float(table[network, middle, sampling]["error"])

    ratio = error("10 classes, 4 epochs", "importance") / error("10 classes, 4 epochs", "uniform")
    pair = error(PAIR, "importance")
    wanted = [
        (f"importance, {PAIR}, n={middle}, mean error", short(pair), "at most 0.08", pair <= 0.08),
        (f"importance / uniform, 4 epochs, n={middle}", short(ratio), "at most 1/3", ratio <= 1 / 3),
    ]
    return f"{markdown(head, body)}\n\n{targets(wanted)}"
