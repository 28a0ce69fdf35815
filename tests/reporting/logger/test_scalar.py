import math

import pytest

from cl_fisher.event import Evaluated, Probed, RunEnded, StepTaken, TaskEnded
from cl_fisher.reporting.logger.scalar import AXIS, Curves, Points


def test_whole_run(events):
    curves = Curves()
    points = [p for event in events if (p := curves.points(event))]
    train = [p for p in points if p.axis == "global_step"]
    assert [p.position for p in train] == [1, 2, 3, 4]
    assert train[-1].values == {"train/loss": 0.5, "train/penalty": 0.5}
    assert Points("task", 0, {"test/acc/task_1": 0.1}) in points
    assert Points("task", 2, {"test/acc/task_1": 0.8, "test/acc/task_2": 0.7}) in points
    (of_fisher,) = [p for p in points if p.position == 1 and "fisher/trace" in p.values]
    assert {"fisher/trace": 1.5, "fisher/seconds": 0.5, "fisher/bytes": 40}.items() <= of_fisher.values.items()
    assert "fisher/estimator" not in of_fisher.values
    last = {"cl/avg_accuracy": 0.75, "cl/learning_accuracy": 0.8, "cl/forgetting": 0.1, "cl/bwt": -0.1}
    assert points[-1] == Points("task", 2, last)


def test_every_key_has_its_axis(events):
    curves = Curves()
    for points in filter(None, map(curves.points, events)):
        for key in points.values:
            assert AXIS[key.rstrip("_0123456789").removesuffix("task").rsplit("/", 1)[0] + "/*"] == points.axis


def test_joint_training_is_at_the_last_task():
    curves = Curves()
    curves.points(Evaluated(5, 10, "test", (0.9,) * 5, (1,) * 5))
    points = curves.points(TaskEnded(1, 10, {"avg_accuracy": 0.9}))
    assert points == Points("task", 5, {"cl/avg_accuracy": 0.9})


def test_continual_evaluation_is_against_steps():
    points = Curves().points(Probed(2, 3, 13, (0.9, None, 0.5), (5, 5, 5)))
    assert points == Points("global_step", 13, {"test/acc_during/task_1": 0.9, "test/acc_during/task_3": 0.5})
    assert AXIS["test/acc_during/*"] == "global_step"


@pytest.mark.parametrize("bad", [math.nan, math.inf, None])
def test_undefined_is_left_out(bad):
    assert Curves().points(StepTaken(1, 1, 1, 1, bad, 2.0)).values == {"train/penalty": 2.0}


def test_other_events_have_no_points():
    assert Curves().points(RunEnded("finished", 1)) is None
