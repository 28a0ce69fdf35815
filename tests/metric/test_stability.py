"""Metrics of continual evaluation against a course worked out by hand, and against naive loops on random ones."""

import random

import pytest

from cl_fisher.metric import stability
from cl_fisher.metric.stability import Measured

# two tasks, measured before the first step and after steps 1 to 3; task 1 falls from 0.9 to 0.3 and comes back to 0.6
COURSE = [
    Measured(1, 0, [0.1]),
    Measured(1, 1, [0.5]),
    Measured(1, 2, [0.8]),
    Measured(1, 3, [0.9]),
    Measured(2, 0, [0.9, 0.2]),
    Measured(2, 1, [0.3, 0.4]),
    Measured(2, 2, [0.5, 0.6]),
    Measured(2, 3, [0.6, 0.7]),
]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("min_accuracy", 0.3),
        ("worst_case_accuracy", 0.7 / 2 + 0.3 / 2),
        ("windowed_forgetting", (0.6 + 0.0) / 2),
        ("windowed_plasticity", (0.8 + 0.5) / 2),
        ("stability_gap", 0.9 - 0.3),
        ("stability_recovery", 0.6 - 0.3),
    ],
)
def test_by_hand(name, expected):
    assert getattr(stability, name)(COURSE) == pytest.approx(expected)


def test_a_window_of_two_sees_single_steps_only():
    assert stability.windowed_forgetting(COURSE, window=2) == pytest.approx((0.6 + 0.0) / 2)
    assert stability.windowed_plasticity(COURSE, window=2) == pytest.approx((0.4 + 0.2) / 2)


def test_what_is_measured_twice_at_a_boundary_counts_once():
    assert stability.series(COURSE, 1) == [0.1, 0.5, 0.8, 0.9, 0.3, 0.5, 0.6]
    assert stability.series(COURSE, 2) == [0.2, 0.4, 0.6, 0.7]


def test_nothing_and_one_task():
    assert stability.summary([]) == dict.fromkeys(stability.KEYS)
    one = stability.summary(COURSE[:4])
    assert [one[key] for key in ("min_acc", "stability_gap", "stability_recovery")] == [None] * 3
    assert one["wc_acc"] == 0.9
    assert (one["wf10"], one["wp10"]) == pytest.approx((0.0, 0.8))
    assert stability.summary(COURSE[:1])["wf10"] is None


def test_undefined_entries_make_undefined_means_not_wrong_ones():
    broken = [*COURSE[:5], Measured(2, 1, [None, 0.4]), *COURSE[6:]]
    undefined = {key for key, value in stability.summary(broken).items() if value is None}
    assert undefined == set(stability.KEYS)


def test_a_task_that_has_only_just_begun_has_no_gap_yet():
    assert stability.stability_gaps(COURSE[:5]) == [None]
    assert stability.min_accuracy(COURSE[:5]) is None


def random_course(n_tasks, steps, seed):
    draw = random.Random(seed)
    return [
        Measured(k, step, [draw.random() for _ in range(k)])
        for k in range(1, n_tasks + 1)
        for step in range(steps + 1)
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("n_tasks", "steps"), [(2, 3), (4, 25)])
def test_against_naive_loops(n_tasks, steps, seed):
    course = random_course(n_tasks, steps, seed)
    at = {(m.task, m.step): m.accuracy for m in course}
    worst, falls, rises, gaps, backs = [], [], [], [], []
    for i in range(n_tasks):
        times = [(k, s) for k in range(i + 1, n_tasks + 1) for s in range(0 if k == i + 1 else 1, steps + 1)]
        values = [at[time][i] for time in times]
        windows = [values[a : a + 10] for a in range(len(values))]
        falls.append(max(w[m] - w[n] for w in windows for n in range(len(w)) for m in range(n + 1)))
        rises.append(max(w[n] - w[m] for w in windows for n in range(len(w)) for m in range(n + 1)))
        if i < n_tasks - 1:
            worst.append(min(at[k, s][i] for k in range(i + 2, n_tasks + 1) for s in range(1, steps + 1)))
    for k in range(2, n_tasks + 1):
        low = [min(at[k, s][i] for s in range(1, steps + 1)) for i in range(k - 1)]
        gaps.append(sum(at[k, 0][i] - low[i] for i in range(k - 1)) / (k - 1))
        backs.append(sum(at[k, steps][i] - low[i] for i in range(k - 1)) / (k - 1))
    min_acc = sum(worst) / len(worst)
    expected = {
        "min_acc": min_acc,
        "wc_acc": course[-1].accuracy[-1] / n_tasks + (1 - 1 / n_tasks) * min_acc,
        "wf10": sum(falls) / n_tasks,
        "wp10": sum(rises) / n_tasks,
        "stability_gap": sum(gaps) / len(gaps),
        "stability_recovery": sum(backs) / len(backs),
    }
    assert stability.summary(course) == pytest.approx(expected)
    assert stability.stability_gaps(course) == pytest.approx(gaps)
