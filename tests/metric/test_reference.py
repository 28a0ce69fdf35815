"""Metrics against reference runs, worked out by hand."""

import pytest

from cl_fisher.metric import reference

R = [[0.9, 0.1, 0.1], [0.7, 0.8, 0.1], [0.5, 0.6, 0.7]]
CUMULATIVE = [[0.9, 0.1, 0.1], [0.9, 0.85, 0.2], [0.9, 0.9, 0.9]]
JOINT = [[0.95, 0.95, 0.8]]
INDEPENDENT = [[0.9, 0.0, 0.0], [0.0, 0.6, 0.0], [0.0, 0.0, 0.75]]
ALL = {"cumulative": CUMULATIVE, "joint": JOINT, "independent": INDEPENDENT}


def test_by_hand():
    assert reference.summary(R, ALL) == {
        "intransigence": pytest.approx((0.0 + 0.05 + 0.2) / 3),
        "intransigence_last": pytest.approx(0.2),
        "fwt_reference": pytest.approx((0.2 - 0.05) / 2),
    }


def test_joint_training_is_reference_for_the_last_task_only():
    found = reference.summary(R, {"joint": JOINT})
    assert found == dict.fromkeys(reference.KEYS) | {"intransigence_last": pytest.approx(0.1)}


def test_an_unfinished_sequence_looks_at_the_tasks_so_far():
    found = reference.summary(R[:2], ALL)
    assert found["intransigence"] == pytest.approx(0.025)
    assert found["intransigence_last"] is None
    assert found["fwt_reference"] == pytest.approx(0.2)


@pytest.mark.parametrize(("matrix", "references", "joint"), [(R, {}, False), ([], ALL, False), (JOINT, ALL, True)])
def test_undefined(matrix, references, joint):
    assert reference.summary(matrix, references, joint) == dict.fromkeys(reference.KEYS)


def test_undefined_entries_and_short_references_make_undefined_means():
    holes = [[None, *row[1:]] for row in R]
    assert reference.summary(holes, ALL)["intransigence"] is None
    assert reference.intransigence(R, CUMULATIVE[:2]) is None
    assert reference.forward_transfer(R[:1], INDEPENDENT) is None
