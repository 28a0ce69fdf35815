"""Metrics of continual evaluation: pure functions of accuracies that were measured while training went on.

All after De Lange et al. 2023, "Continual evaluation for lifelong learning: identifying the stability gap", sec. 3.
A(i, n) is the accuracy on task i at the n-th evaluation, a fraction; k is the task in training. Each function returns
None where it is undefined.
"""

from collections.abc import Sequence
from typing import NamedTuple

from cl_fisher.metric.continual import mean

KEYS = ("min_acc", "wc_acc", "wf10", "wp10", "stability_gap", "stability_recovery")
WINDOW = 10
"""Evaluations."""


class Measured(NamedTuple):
    """One evaluation."""

    task: int
    """The task in training, from 1."""
    step: int
    """Optimizer steps of that task so far; 0 is right before its first."""
    accuracy: Sequence[float | None]
    """Of task 1, 2, ..., as many as have been begun."""


Course = Sequence[Measured]
"""In the order of time."""


def series(course: Course, task: int) -> list[float | None]:
    """A(task, n) from right before the task is learned; what is measured twice at a boundary counts once."""
    return [m.accuracy[task - 1] for m in course if m.task >= task and (m.step > 0 or m.task == task)]


def min_accuracy(course: Course) -> float | None:
    """mean_{i<k} min_n A(i, n), n over all evaluations after task i was learned."""
    last = course[-1].task if course else 0
    later = ([m.accuracy[i - 1] for m in course if m.task > i and m.step > 0] for i in range(1, last))
    return mean([_least(values) for values in later])


def worst_case_accuracy(course: Course) -> float | None:
    """1/k A(k, now) + (1 - 1/k) min-ACC: what the present task has come to, and the worst that happened to the others.

    For the first task it is that task's accuracy.
    """
    if not course:
        return None
    last = course[-1].task
    now, worst = course[-1].accuracy[last - 1], min_accuracy(course) if last > 1 else 0.0
    return None if now is None or worst is None else now / last + (1 - 1 / last) * worst


def windowed_forgetting(course: Course, window: int = WINDOW) -> float | None:
    """mean_{i<=k} max_{m<=n} (A(i, m) - A(i, n)), m and n within `window` evaluations in a row: the steepest fall."""
    return _largest_change(course, window, sign=-1)


def windowed_plasticity(course: Course, window: int = WINDOW) -> float | None:
    """mean_{i<=k} max_{m<=n} (A(i, n) - A(i, m)), m and n within `window` evaluations in a row: the steepest rise."""
    return _largest_change(course, window, sign=1)


def stability_gaps(course: Course) -> list[float | None]:
    """By boundary, from that to task 2 on: mean_{i<k} (A(i, before) - min_n A(i, n)), n within the training of task k.

    `before` is the evaluation right before the first step of task k. A gap that never opens may be negative.
    """
    return [mean([_minus(before, _least(during)) for before, during in part]) for part in _boundaries(course)]


def stability_gap(course: Course) -> float | None:
    """The mean of `stability_gaps`."""
    return mean(stability_gaps(course))


def stability_recovery(course: Course) -> float | None:
    """What is won back by the end of the task: mean over boundaries and i<k of A(i, end) - min_n A(i, n)."""
    return mean([mean([_minus(d[-1], _least(d)) if d else None for _, d in part]) for part in _boundaries(course)])


def summary(course: Course) -> dict[str, float | None]:
    """All of them under the keys of metrics.json."""
    return {
        "min_acc": min_accuracy(course),
        "wc_acc": worst_case_accuracy(course),
        "wf10": windowed_forgetting(course),
        "wp10": windowed_plasticity(course),
        "stability_gap": stability_gap(course),
        "stability_recovery": stability_recovery(course),
    }


def _largest_change(course: Course, window: int, sign: int) -> float | None:
    tasks = range(1, course[-1].task + 1) if course else range(0)
    return mean([_largest_rise([v if v is None else sign * v for v in series(course, i)], window) for i in tasks])


def _largest_rise(values: Sequence[float | None], window: int) -> float | None:
    known = [value for value in values if value is not None]
    if len(known) < len(values) or len(known) < 2:
        return None
    return max(value - min(known[max(0, n - window + 1) : n + 1]) for n, value in enumerate(known))


def _boundaries(course: Course) -> list[list[tuple[float | None, list[float | None]]]]:
    """By boundary and earlier task: the accuracy right before it, and those within the task that then begins."""
    parts = []
    for k in range(2, (course[-1].task if course else 0) + 1):
        before = next((m.accuracy for m in course if m.task == k and m.step == 0), [None] * k)
        during = [m.accuracy for m in course if m.task == k and m.step > 0]
        parts.append([(before[i], [row[i] for row in during]) for i in range(k - 1)])
    return parts


def _least(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return min(known) if known and len(known) == len(values) else None


def _minus(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b
