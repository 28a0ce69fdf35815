"""How costs fall with the number of examples, as what is done once per estimate is spread over more of them."""

import statistics
from collections.abc import Callable

from fisher_accuracy.error import METHODS, plain, seconds
from fisher_accuracy.networks import data, diagonal, ten_classes
from fisher_accuracy.table import Row, markdown

CHOSEN = [("empirical", ""), ("stratified", "3"), ("exact", "")]


def measure(quick: bool, say: Callable[[str], None]) -> list[dict]:
    model = ten_classes(quick)[4]
    train, _ = data(quick)
    rows = []
    for n in (300, 600) if quick else (5000, 20000, 60000):
        some = train.some(n)
        costs: dict[tuple, list[float]] = {method: [] for method in CHOSEN}
        for _ in range(1 if quick else 3):
            say(f"size: {n} examples")
            before, _ = seconds(plain, model, some)
            for method in CHOSEN:
                own, _ = seconds(diagonal, model, some, METHODS[method])
                after, _ = seconds(plain, model, some)
                costs[method].append(2 * own / (before + after))
                before = after
        rows += [
            {"examples": n, "estimator": name, "K": k, "cost": statistics.median(costs[name, k])}
            | {"low": min(costs[name, k]), "high": max(costs[name, k])}
            for name, k in CHOSEN
        ]
    return rows


def show(rows: list[Row]) -> str:
    table = {(int(row["examples"]), row["estimator"]): row for row in rows}
    body = []
    for n in dict.fromkeys(key[0] for key in table):
        costs = [table[n, name] for name, _ in CHOSEN]
        cells = [f"{float(r['cost']):.2f} ({float(r['low']):.2f}-{float(r['high']):.2f})" for r in costs]
        body.append([f"{n:,}", *cells, f"{float(costs[1]['cost']) / float(costs[2]['cost']):.2f}"])
    return markdown(["images", "`empirical`", "`stratified`, K=3", "`exact`", "stratified / exact"], body)
