import pytest
import torch

from cl_fisher.benchmark.task import Scenario, Task, TaskSequence
from cl_fisher.dataset.examples import Examples
from cl_fisher.error import InputError

NOTHING = Examples(torch.zeros(1, 1, 2, 2), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))


def sequence(name, head="growing") -> TaskSequence:
    scenario = Scenario(name, head)
    units = scenario.units([2, 2, 2])
    tasks = tuple(Task(t, NOTHING, NOTHING, NOTHING, own) for t, own in enumerate(units, start=1))
    return TaskSequence(tasks, scenario, units[-1].stop)


def table(tasks: TaskSequence) -> list[list[range | None]]:
    """Rows: seen = 0 to 3; columns: the three tasks."""
    return [[tasks.active(task, seen) for task in tasks.tasks] for seen in range(4)]


def test_domain():
    assert table(sequence("domain")) == [[range(2)] * 3] * 4


def test_task():
    assert table(sequence("task")) == [[range(2), range(2, 4), range(4, 6)]] * 4


def test_class_with_growing_head():
    assert table(sequence("class")) == [
        [None, None, None],
        [range(2), None, None],
        [range(4), range(4), None],
        [range(6), range(6), range(6)],
    ]


def test_class_with_full_head():
    assert table(sequence("class", "full")) == [[range(6)] * 3] * 4


def test_units_of_uneven_tasks():
    assert Scenario("task").units([4, 3, 3]) == [range(4), range(4, 7), range(7, 10)]
    assert Scenario("domain").units([3, 3]) == [range(3), range(3)]


def test_unknown_scenario_and_head():
    with pytest.raises(InputError, match=r"scenario\.name"):
        Scenario("both")
    with pytest.raises(InputError, match=r"scenario\.head"):
        Scenario("class", "half")


def test_input_shape():
    assert sequence("task").input_shape == (1, 2, 2)
