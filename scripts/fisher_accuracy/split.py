"""The task "0 vs 1" of Split MNIST: by how much estimators differ in scale on a very confident network."""

from collections.abc import Callable

from cl_fisher.fisher.estimator.batched_empirical import BatchedEmpirical
from fisher_accuracy.networks import accuracy, cosine, diagonal, zero_or_one
from fisher_accuracy.table import Row, markdown, short

ESTIMATORS = {
    "exact": "exact",
    "monte_carlo": "monte_carlo",
    "empirical": "empirical",
    "batched_empirical": BatchedEmpirical(128, "mean"),
}


def measure(quick: bool, say: Callable[[str], None]) -> list[dict]:
    rows = []
    for seed in range(1 if quick else 3):
        say(f"split: seed {seed}")
        model, pair = zero_or_one(seed, quick)
        found = {name: diagonal(model, pair, estimator) for name, estimator in ESTIMATORS.items()}
        rows += [
            {"seed": seed, "training_accuracy": accuracy(model, pair), "estimator": name}
            | {"trace": float(diag.sum()), "cosine": cosine(diag, found["exact"]) if diag.any() else 0.0}
            for name, diag in found.items()
        ]
    return rows


def show(rows: list[Row]) -> str:
    seeds = sorted({row["seed"] for row in rows})
    traces = {(row["seed"], row["estimator"]): float(row["trace"]) for row in rows}
    cosines = {(row["seed"], row["estimator"]): float(row["cosine"]) for row in rows}

    def line(what: str, values: list[float], wanted: str, low: float, high: float) -> list[str]:
        met = all(low <= value <= high for value in values)
        verdict = "" if not wanted else "PASS" if met else "MISSED"
        return [what, *(short(value) for value in values), wanted, verdict]

    def ratio(above: str, below: str) -> list[float]:
        return [traces[s, above] / traces[s, below] if traces[s, below] else float("inf") for s in seeds]

    body = [
        line("trace of `exact`", [traces[s, "exact"] for s in seeds], "", 0, 0),
        line("trace of `monte_carlo`, one label", [traces[s, "monte_carlo"] for s in seeds], "", 0, 0),
        line("trace of exact / empirical", ratio("exact", "empirical"), "3e2 to 1e4", 3e2, 1e4),
        line("trace of exact / batched, mean of 128", ratio("exact", "batched_empirical"), "3e4 to 1e6", 3e4, 1e6),
        line("their quotient", ratio("empirical", "batched_empirical"), "128 within 15 %", 0.85 * 128, 1.15 * 128),
    ]
    body += [
        line(f"cosine of `{name}` with exact", [cosines[s, name] for s in seeds], "above 0.85", 0.85, 1.01)
        for name in ("empirical", "batched_empirical")
    ]
    body.append(line("cosine of `monte_carlo` with exact", [cosines[s, "monte_carlo"] for s in seeds], "", 0, 0))
    return markdown(["", *(f"seed {s}" for s in seeds), "expected", ""], body)
