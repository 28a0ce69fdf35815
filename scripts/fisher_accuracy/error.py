"""How far estimates of the diagonal are from the exact one, and what they cost."""

import copy
import statistics
import time
from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from cl_fisher.fisher.estimator.argmax import Argmax
from cl_fisher.fisher.estimator.batched_empirical import BatchedEmpirical
from cl_fisher.fisher.estimator.empirical import Empirical
from cl_fisher.fisher.estimator.estimator import Estimator
from cl_fisher.fisher.estimator.exact import Exact
from cl_fisher.fisher.estimator.monte_carlo import MonteCarlo
from cl_fisher.fisher.estimator.signs import Signs
from cl_fisher.fisher.estimator.stratified import Stratified
from fisher_accuracy.networks import Part, accuracy, cosine, data, diagonal, distance, ten_classes
from fisher_accuracy.table import Row, markdown, short, targets

CHAINS = (1, 2, 3, 5, 10)
EPOCHS = (1, 4)
DRAWN = {"monte_carlo": MonteCarlo, "signs": Signs, "stratified": Stratified}
METHODS: dict[tuple[str, str], Estimator] = {
    ("exact", ""): Exact(),
    **{(name, str(k)): kind(k) for name, kind in DRAWN.items() for k in CHAINS},
    ("empirical", ""): Empirical(),
    ("argmax", ""): Argmax(),
    ("batched_empirical", ""): BatchedEmpirical(128, "mean"),
}


def measure(quick: bool, say: Callable[[str], None]) -> list[dict]:
    train, test = data(quick)
    some = train.some(300 if quick else 5000)
    rows = []
    for epochs in EPOCHS:
        model = ten_classes(quick)[epochs]
        say(f"error: after {epochs} epochs")
        rows += of_network(model, some, 1 if quick else 10, {"epochs": epochs, "test_accuracy": accuracy(model, test)})
    return rows


def of_network(model: nn.Module, some: Part, draws: int, name: dict) -> list[dict]:
    """Each method draws and is timed once a round, between two plain passes."""
    exact = diagonal(copy.deepcopy(model).double(), Part(some.inputs.double(), some.targets))
    errors: dict[tuple, list[float]] = {method: [] for method in METHODS}
    costs: dict[tuple, list[float]] = {method: [] for method in METHODS}
    last: dict[tuple, Tensor] = {}
    seconds(plain, model, some)
    for seed in range(draws):
        before, _ = seconds(plain, model, some)
        for method, estimator in METHODS.items():
            own, last[method] = seconds(diagonal, model, some, estimator, seed=seed)
            after, _ = seconds(plain, model, some)
            costs[method].append(2 * own / (before + after))
            errors[method].append(distance(last[method], exact))
            before = after
    return [
        name
        | {"estimator": method[0], "K": method[1]}
        | {"error": statistics.fmean(errors[method]), "error_max": max(errors[method])}
        | {"trace": float(last[method].sum() / exact.sum()), "cosine": cosine(last[method], exact)}
        | dict(zip(("cost_low", "cost", "cost_high"), quartiles(costs[method]), strict=True))
        for method in METHODS
    ]


def plain(model: nn.Module, some: Part) -> None:
    """One forward and backward pass."""
    for x, y in some.batches():
        model.zero_grad()
        cross_entropy(model(x), y).backward()
    model.zero_grad()


def seconds(run: Callable, *args: object, **options: object) -> tuple[float, Tensor]:
    """Of this process, which a busy machine disturbs less than those of the clock."""
    start = time.process_time()
    result = run(*args, **options)
    return time.process_time() - start, result


def quartiles(values: list[float]) -> list[float]:
    return statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3


def show(rows: list[Row]) -> str:
    table = {(int(row["epochs"]), row["estimator"], row["K"]): row for row in rows}
    head = ["estimator", "K"]
    for epochs in EPOCHS:
        head += [f"error, {epochs} epoch{'s' * (epochs > 1)}", "largest", "trace / exact", "cost (quartiles)"]
    body = []
    for name, k in METHODS:
        cells = [f"`{name}`", k]
        for epochs in EPOCHS:
            row = table[epochs, name, k]
            cost = f"{float(row['cost']):.2f} ({float(row['cost_low']):.2f}-{float(row['cost_high']):.2f})"
            cells += [short(row["error"]), short(row["error_max"]), short(row["trace"]), cost]
        body.append(cells)
    low, full = table[4, "stratified", "3"], table[4, "exact", ""]
    share = float(low["cost"]) / float(full["cost"])
    wanted = [
        ("error of `stratified` K=3, 4 epochs", short(low["error"]), "below 0.03", float(low["error"]) < 0.03),
        ("its cost over that of `exact`", short(share), "at most 0.55", share <= 0.55),
    ]
    accuracies = ", ".join(f"{100 * float(table[e, 'exact', '']['test_accuracy']):.2f} % after {e}" for e in EPOCHS)
    return f"Test accuracy by epochs: {accuracies}.\n\n{markdown(head, body)}\n\n{targets(wanted)}"
