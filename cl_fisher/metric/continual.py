"""Continual-learning metrics: pure functions of an accuracy matrix.

R[i][j] is the accuracy on task j after training on task i, both counted from 0 here; a fraction of examples, or None
where it is undefined. T tasks make T rows, fewer while a sequence goes on; then T is the last task so far. Each
function returns None where it is undefined, as forgetting is for a single task.
"""

from collections.abc import Sequence

Row = Sequence[float | None]
Matrix = Sequence[Row]

KEYS = (
    "avg_accuracy",
    "avg_incremental_accuracy",
    "learning_accuracy",
    "forgetting",
    "forgetting_first",
    "bwt",
    "fwt",
)


def mean(values: Sequence[float | None]) -> float | None:
    """Arithmetic mean, None if there is nothing to average or an entry is undefined."""
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def average_accuracy(matrix: Matrix) -> float | None:
    """mean_{j<=T} R[T,j]."""
    return mean(matrix[-1][: len(matrix)]) if matrix else None


def average_incremental_accuracy(matrix: Matrix) -> float | None:
    """mean_i mean_{j<=i} R[i,j]: average accuracy so far, over the sequence (after Rebuffi et al. 2017)."""
    return mean([average_accuracy(matrix[:i]) for i in range(1, len(matrix) + 1)])


def learning_accuracy(matrix: Matrix) -> float | None:
    """mean_j R[j,j]: how well each task was learned when it was its turn (Riemer et al. 2019)."""
    return mean([row[j] for j, row in enumerate(matrix)])


def backward_transfer(matrix: Matrix) -> float | None:
    """mean_{j<T} (R[T,j] - R[j,j]) (Lopez-Paz & Ranzato 2017, eq. 3)."""
    last = len(matrix) - 1
    return mean([_difference(matrix[last][j], matrix[j][j]) for j in range(last)])


def forward_transfer(matrix: Matrix, at_initialisation: Row | None) -> float | None:
    """mean_{j>1} (R[j-1,j] - b_j), b the accuracy at initialisation (Lopez-Paz & Ranzato 2017, eq. 4)."""
    if at_initialisation is None:
        return None
    return mean([_difference(matrix[j - 1][j], at_initialisation[j]) for j in range(1, len(matrix))])


def forgetting(matrix: Matrix) -> float | None:
    """mean_{j<T} (max_{j<=l<T} R[l,j] - R[T,j]): best so far minus last.

    After Chaudhry et al. 2018, eq. 3, whose maximum begins at l = 1: what was never learned is not forgotten here.
    """
    last = len(matrix) - 1
    return mean([_difference(_largest([matrix[i][j] for i in range(j, last)]), matrix[last][j]) for j in range(last)])


def forgetting_first(matrix: Matrix) -> float | None:
    """mean_{j<T} (R[j,j] - R[T,j]): first minus last, which is minus the backward transfer."""
    transfer = backward_transfer(matrix)
    return None if transfer is None else -transfer


def summary(matrix: Matrix, at_initialisation: Row | None, joint: bool = False) -> dict[str, float | None]:
    """All of them under the keys of metrics.json; joint training has one row, over all tasks, and nothing to forget."""
    if joint:
        return dict.fromkeys(KEYS) | {"avg_accuracy": mean(matrix[-1]) if matrix else None}
    return {
        "avg_accuracy": average_accuracy(matrix),
        "avg_incremental_accuracy": average_incremental_accuracy(matrix),
        "learning_accuracy": learning_accuracy(matrix),
        "forgetting": forgetting(matrix),
        "forgetting_first": forgetting_first(matrix),
        "bwt": backward_transfer(matrix),
        "fwt": forward_transfer(matrix, at_initialisation),
    }


def _difference(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def _largest(values: Row) -> float | None:
    known = [v for v in values if v is not None]
    return max(known) if known else None
