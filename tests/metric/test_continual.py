"""Metrics against numbers worked out by hand."""

import pytest

from cl_fisher.metric import continual

MATRIX = [[0.9, 0.2, 0.1], [0.95, 0.8, 0.3], [0.5, 0.6, 0.7]]
INITIAL = [0.1, 0.1, 0.15]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("average_accuracy", (0.5 + 0.6 + 0.7) / 3),
        ("average_incremental_accuracy", (0.9 + (0.95 + 0.8) / 2 + (0.5 + 0.6 + 0.7) / 3) / 3),
        ("learning_accuracy", (0.9 + 0.8 + 0.7) / 3),
        ("backward_transfer", ((0.5 - 0.9) + (0.6 - 0.8)) / 2),
        ("forgetting", ((0.95 - 0.5) + (0.8 - 0.6)) / 2),  # task 1 was best after task 2
        ("forgetting_first", ((0.9 - 0.5) + (0.8 - 0.6)) / 2),
    ],
)
def test_by_hand(name, expected):
    assert getattr(continual, name)(MATRIX) == pytest.approx(expected)


def test_forward_transfer():
    assert continual.forward_transfer(MATRIX, INITIAL) == pytest.approx(((0.2 - 0.1) + (0.3 - 0.15)) / 2)
    assert continual.forward_transfer(MATRIX, None) is None


def test_unfinished_sequence_looks_at_the_tasks_so_far():
    assert continual.average_accuracy(MATRIX[:2]) == pytest.approx((0.95 + 0.8) / 2)
    assert continual.forgetting(MATRIX[:2]) == pytest.approx(0.9 - 0.95)  # better than ever: negative


def test_one_task_has_nothing_to_forget():
    result = continual.summary([[0.9]], [0.1])
    assert result["avg_accuracy"] == result["avg_incremental_accuracy"] == result["learning_accuracy"] == 0.9
    assert [result[key] for key in ("forgetting", "forgetting_first", "bwt", "fwt")] == [None] * 4


def test_undefined_entries_make_undefined_means_not_wrong_ones():
    growing = [[0.9, None, None], [0.8, 0.7, None], [0.5, 0.6, 0.7]]
    result = continual.summary(growing, [None, None, None])
    assert result["fwt"] is None
    assert result["forgetting"] == pytest.approx((0.4 + 0.1) / 2)
    assert result["avg_accuracy"] == pytest.approx(0.6)
    assert result["avg_incremental_accuracy"] == pytest.approx((0.9 + 0.75 + 0.6) / 3)


def test_joint_training_averages_its_one_row_over_all_tasks():
    result = continual.summary([[0.9, 0.8, 0.4]], INITIAL, joint=True)
    assert result == dict.fromkeys(continual.KEYS) | {"avg_accuracy": pytest.approx(0.7)}


def test_nothing_yet():
    assert continual.summary([], None) == dict.fromkeys(continual.KEYS)
