"""What a lambda of other code means: the scale and the direction of what it calls the Fisher, on one network."""

from collections.abc import Callable
from functools import partial

from cl_fisher.fisher.estimator.batched_empirical import BatchedEmpirical
from fisher_accuracy.networks import accuracy, cosine, data, diagonal, distance, ten_classes
from fisher_accuracy.other_codes import avalanche, hsu, mammoth, pycil, van_de_ven
from fisher_accuracy.table import Row, markdown, short

BAND = 1.5
"""Within this factor of an earlier measurement, on another network of the same kind, counts as the same."""
SIZES = {8: 0.084, 32: 0.021, 128: 0.0059, 256: 0.0034}
EXPECTED = {"all": 1.0, "sampled": 0.97, "true": 0.68, "argmax": 0.28}
SAME = {"all": "exact", "true": "empirical", "argmax": "argmax"}


def cases() -> list[tuple]:
    """Code, what it squares, 1/2 in its penalty, how to get it, expected trace, the same in cl_fisher."""
    found: list[tuple] = [
        ("van de Ven", labels, True, partial(van_de_ven, labels=labels), value, SAME.get(labels))
        for labels, value in EXPECTED.items()
    ]
    found.append(("mammoth", "true, times its probability", False, mammoth, 0.21, None))
    found += [
        ("Avalanche", f"true, batch mean of {b}", False, partial(avalanche, size=b), value, BatchedEmpirical(b, "mean"))
        for b, value in SIZES.items()
    ]
    found.append(("PyCIL", "true, batch mean of 128, at most 1e-4", True, pycil, None, None))
    found.append(("Hsu et al.", "argmax, batch mean of 128, times 128", False, hsu, None, None))
    return found


def measure(quick: bool, say: Callable[[str], None]) -> list[dict]:
    model = ten_classes(quick)[2]
    train, test = data(quick)
    some = train.some(256 if quick else 10240)  # whole batches only: a smaller last one would count too much
    exact, reached = diagonal(model, some), accuracy(model, test)
    rows = []
    for code, what, half, run, expected, same in cases():
        say(f"conventions: {code}, {what}")
        theirs = run(model, some).double()
        scale = float(theirs.sum() / exact.sum())
        rows.append(
            {"code": code, "squares": what, "test_accuracy": reached, "half": half, "trace": scale}
            | {"expected": expected or "", "cosine": cosine(theirs, exact), "factor": scale * (1 if half else 2)}
            | {"distance_from_ours": "" if same is None else distance(theirs, diagonal(model, some, same))}
        )
    return rows


def show(rows: list[Row]) -> str:
    body = []
    for row in rows:
        trace, expected = float(row["trace"]), row["expected"]
        verdict = ""
        if expected:
            verdict = "PASS" if 1 / BAND <= trace / float(expected) <= BAND else "MISSED"
        same = short(row["distance_from_ours"]) if row["distance_from_ours"] else ""
        penalty = "lambda / 2" if row["half"] == "True" else "lambda"
        measured = [short(trace), short(expected) if expected else "", verdict, short(row["cosine"]), penalty]
        body.append([row["code"], row["squares"], *measured, short(row["factor"]), same])
    head = ["code", "labels, what is squared", "trace / exact", "expected", "", "cosine", "penalty"]
    table = markdown([*head, "times their lambda = ours", "distance from the same in cl_fisher"], body)
    return f"Test accuracy: {100 * float(rows[0]['test_accuracy']):.2f} %.\n\n{table}"
