import subprocess
import sys

import pytest

from cl_fisher.benchmark.rule import check_scenario, check_split
from cl_fisher.error import InputError


@pytest.mark.parametrize(
    ("n_tasks", "n_classes", "scenario", "expected"),
    [
        (5, 10, "task", [2, 2, 2, 2, 2]),
        (3, 10, "task", [4, 3, 3]),
        (4, 10, "class", [3, 3, 2, 2]),
        (9, 10, "class", [2] + [1] * 8),
        (2, 10, "domain", [5, 5]),
        (1, 10, "domain", [10]),
        (3, 9, "domain", [3, 3, 3]),
    ],
)
def test_even_sizes(n_tasks, n_classes, scenario, expected):
    assert check_split(n_tasks, n_classes, scenario) == expected


def test_one_class_a_task_needs_a_full_head():
    assert check_split(10, 10, "class", head="full") == [1] * 10
    assert check_split(2, 10, "class", sizes=[1, 3], head="full") == [1, 3]
    assert check_split(2, 10, "class", sizes=[3, 1]) == [3, 1]


def test_explicit_sizes_and_order_may_leave_classes_out():
    assert check_split(3, 10, "task", "random", [4, 2, 3]) == [4, 2, 3]
    assert check_split(2, 10, "domain", "natural", (3, 3)) == [3, 3]
    assert check_split(2, 10, "task", [9, 1, 3, 4]) == [2, 2]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((6, 10, "task"), "nothing to tell apart.*at most 5"),
        ((11, 10, "class"), "first task needs at least two classes.*n_tasks can be at most 9"),
        ((11, 10, "class", "random", None, "full"), "at least one class; n_tasks can be at most 10"),
        ((10, 10, "class"), r"first task.*at least two classes.*scenario\.head=full.*n_tasks can be at most 9"),
        ((2, 10, "class", "random", [1, 3]), r"sizes=\[1, 3\].*first task needs.*scenario\.head=full"),
        ((3, 10, "domain"), r"same number of classes.*one of \[1, 2, 5\]"),
        ((5, 9, "domain"), r"one of \[1, 3\]"),
        ((2, 10, "task", [1, 2, 3]), "at most 1"),
        ((2, 10, "task", "sorted"), "random, natural or a list"),
        ((2, 10, "task", [1, 2, 2, 3]), "distinct classes from 0 to 9"),
        ((2, 10, "task", [1, 2, 10, 3]), "distinct classes from 0 to 9"),
        ((2, 10, "task", [-1, 2, 4, 3]), "distinct classes from 0 to 9"),
        ((2, 10, "task", []), "distinct classes"),
        ((2, 10, "task", ["a", "b"]), "class_order.*list of whole numbers"),
        ((2, 10, "task", 3), "class_order=3: a list of whole numbers"),
        ((2, 10, "task", "random", [3, 3, 3]), "3 entries for n_tasks=2"),
        ((2, 10, "task", "random", []), "0 entries for n_tasks=2"),
        ((2, 10, "class", "random", [3, 0]), "at least one class"),
        ((2, 10, "class", "random", [3, -3]), "at least one class"),
        ((2, 10, "class", "random", [6, 5]), "together 11 classes, but there are only 10"),
        ((2, 10, "class", [1, 2, 3], [2, 2]), "together 4 classes, but there are only 3"),
        ((2, 10, "task", "random", [1, 9]), "nothing to tell apart"),
        ((2, 10, "domain", "random", [4, 6]), "same number of classes"),
        ((2, 10, "domain", "random", [1, 1]), "at least two"),
        ((2, 10, "class", "random", [2.5, 2]), "sizes.*list of whole numbers"),
        ((2, 10, "class", "random", 2), "sizes=2: a list of whole numbers"),
        ((6, 10, "class", "random", None, "separate"), "only a task's own outputs compete.*n_tasks can be at most 5"),
        ((3, 10, "class", "random", [2, 1, 1], "separate"), r"scenario\.head=separate: each task needs at least two"),
    ],
)
def test_refused_with_the_reason(arguments, words):
    with pytest.raises(InputError, match=words) as error:
        check_split(*arguments)
    assert "\n" not in str(error.value)


def test_scenario():
    check_scenario("class", "full")
    with pytest.raises(InputError, match=r"scenario\.name=both .*task, domain, class"):
        check_scenario("both", "growing")
    with pytest.raises(InputError, match=r"scenario\.head=half .*growing, full"):
        check_scenario("class", "half")


def test_imports_no_torch():
    code = "import sys, cl_fisher.benchmark.rule; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
