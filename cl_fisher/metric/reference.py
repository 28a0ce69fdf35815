"""Metrics against networks that were trained otherwise, on the same tasks from the same seed: pure functions.

R is the accuracy matrix of the run, counted from 0 here; `cumulative` that of a network trained at each task on all
tasks so far, `joint` the one row of a network trained once on all tasks, `independent` the matrix of networks each
trained on its own task alone. None where a reference is missing.
"""

from collections.abc import Mapping, Sequence

from cl_fisher.metric.continual import Matrix, mean

KEYS = ("intransigence", "intransigence_last", "fwt_reference")
References = Mapping[str, Matrix]
"""Accuracy matrices of reference runs, by strategy: "cumulative", "joint", "independent"."""


def intransigence(matrix: Matrix, cumulative: Matrix | None) -> float | None:
    """mean_k (a*_k - R[k,k]), a*_k = cumulative[k,k]: how much worse tasks are learned than with all data at hand.

    After Chaudhry et al. 2018, sec. 3.
    """
    return mean(_diagonal_gap(cumulative, matrix))


def intransigence_last(matrix: Matrix, cumulative: Matrix | None, joint: Matrix | None) -> float | None:
    """a*_T - R[T,T], of the last task alone: what joint training is enough for (Chaudhry et al. 2018, sec. 3)."""
    if not matrix or len(matrix) < len(matrix[0]):
        return None
    own, at_end = matrix[-1][-1], (cumulative or joint or [[None]])[-1][-1]
    return None if own is None or at_end is None else at_end - own


def forward_transfer(matrix: Matrix, independent: Matrix | None) -> float | None:
    """mean_{k>1} (R[k,k] - independent[k,k]): what earlier tasks add to, or take from, learning a new one."""
    gaps = _diagonal_gap(independent, matrix)[1:]
    return mean([None if gap is None else -gap for gap in gaps])


def summary(matrix: Matrix, references: References, joint: bool = False) -> dict[str, float | None]:
    """All of them under the keys of metrics.json; a run on all tasks at once has learned none of them in turn."""
    if joint:
        return dict.fromkeys(KEYS)
    cumulative = references.get("cumulative")
    return {
        "intransigence": intransigence(matrix, cumulative),
        "intransigence_last": intransigence_last(matrix, cumulative, references.get("joint")),
        "fwt_reference": forward_transfer(matrix, references.get("independent")),
    }


def _diagonal_gap(reference: Matrix | None, matrix: Matrix) -> Sequence[float | None]:
    if reference is None or len(reference) < len(matrix):
        return [None] * len(matrix)
    pairs = [(reference[k][k], row[k]) for k, row in enumerate(matrix)]
    return [None if a is None or b is None else a - b for a, b in pairs]
