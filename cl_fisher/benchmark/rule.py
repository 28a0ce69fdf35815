"""What a task sequence may look like. Free of torch, so that the command line can refuse a wrong one at once."""

from collections.abc import Mapping, Sequence
from typing import Literal

from cl_fisher.bounds import check_choice
from cl_fisher.error import InputError

ScenarioName = Literal["task", "domain", "class"]
HeadName = Literal["growing", "full", "separate"]
OldRows = Literal["penalised", "frozen", "free"]

_NEED = {
    "task": "a task needs at least two classes, else there is nothing to tell apart (scenario=class can)",
    "domain": "the tasks share their output units, so all need the same number of classes, at least two",
    "class": "a task needs at least one class",
    "growing": "the first task needs at least two classes, for with one output there is nothing to learn and no Fisher "
    "(scenario.head=full can start with one)",
    "separate": "each task needs at least two classes, for only a task's own outputs compete in training "
    "(scenario.head=full or growing can do with one)",
}


def check_scenario(name: str, head: str, old_rows: str = "penalised", blur: float = 0.0) -> None:
    """Raise `InputError` for a scenario, head or treatment of old rows that does not exist or does not fit."""
    choices = {"name": ScenarioName, "head": HeadName, "old_rows": OldRows}
    for (key, known), value in zip(choices.items(), (name, head, old_rows), strict=True):
        check_choice(f"scenario.{key}", value, known)
    if name == "domain" and old_rows != "penalised":
        raise InputError(
            f"scenario.old_rows={old_rows} is not possible with scenario=domain: all tasks share all rows of the "
            "output layer, so none is old"
        )
    if name == "class" and head != "full" and blur > 0:
        raise InputError(
            f"scenario.blur={blur:g} is not possible with scenario.head={head}: classes of later tasks appear early, "
            "which needs scenario.head=full"
        )


def check_split(
    n_tasks: int,
    n_classes: int,
    scenario_name: str,
    class_order: str | Sequence[int] = "random",
    sizes: Sequence[int] | None = None,
    head: str = "growing",
) -> list[int]:
    """Number of classes of each task: `sizes`, or else as even as possible, larger tasks first (10 in 3: 4, 3, 3).

    An explicit `class_order` or `sizes` may leave classes out.

    Raises:
        InputError: The classes cannot be dealt out like this.
    """
    n_dealt = _count(class_order, n_classes)
    if sizes is not None:
        return _check_sizes(sizes, n_tasks, n_dealt, scenario_name, head)
    need = head if scenario_name == "class" and head != "full" else scenario_name
    fewest = 1 if need in ("class", "growing") else 2
    fits = [n for n in range(1, n_dealt // fewest + 1) if scenario_name != "domain" or n_dealt % n == 0]
    possible = [n for n in fits if n < n_dealt or need != "growing"]
    if n_tasks not in possible:
        choice = f"one of {possible}" if scenario_name == "domain" else f"at most {max(possible, default=0)}"
        raise InputError(
            f"n_tasks={n_tasks} does not fit {n_dealt} classes with scenario={scenario_name}: "
            f"{_NEED[need]}; n_tasks can be {choice}"
        )
    return [n_dealt // n_tasks + (task < n_dealt % n_tasks) for task in range(n_tasks)]


def check_sequence(n_tasks: int, n_classes: Mapping[str, int | None], scenario_name: str) -> None:
    """Raise `InputError` if these data sets, with their numbers of classes where known, are no sequence of tasks."""
    if n_tasks > len(n_classes):
        raise InputError(
            f"n_tasks={n_tasks} is more than the {len(n_classes)} data sets of benchmark=sequence; one more is added "
            f"with +dataset@benchmark.datasets.task{len(n_classes) + 1}=NAME"
        )
    used = dict(list(n_classes.items())[:n_tasks])
    if scenario_name == "domain" and len({n for n in used.values() if n is not None}) > 1:
        counts = ", ".join(f"{name} {n}" for name, n in used.items() if n is not None)
        raise InputError(f"benchmark=sequence is not possible with scenario=domain: {_NEED['domain']} ({counts})")


def _count(class_order: str | Sequence[int], n_classes: int) -> int:
    """How many classes are dealt out."""
    if isinstance(class_order, str):
        if class_order not in ("random", "natural"):
            raise InputError(f"benchmark.class_order={class_order} is unknown: random, natural or a list of classes")
        return n_classes
    order = _whole_numbers("class_order", class_order)
    if not order or len(set(order)) < len(order) or not set(order) <= set(range(n_classes)):
        raise InputError(f"benchmark.class_order={order}: it must be distinct classes from 0 to {n_classes - 1}")
    return len(order)


def _check_sizes(sizes: Sequence[int], n_tasks: int, n_dealt: int, scenario_name: str, head: str) -> list[int]:
    counts = _whole_numbers("sizes", sizes)
    wrong = f"benchmark.sizes={counts}: "
    if len(counts) != n_tasks:
        raise InputError(f"{wrong}it has {len(counts)} entries for n_tasks={n_tasks}; one per task is wanted")
    if min(counts) < 1:
        raise InputError(f"{wrong}every task needs at least one class")
    if sum(counts) > n_dealt:
        raise InputError(f"{wrong}together {sum(counts)} classes, but there are only {n_dealt}")
    alone = scenario_name != "class" and 1 in counts
    if alone or (scenario_name == "domain" and len(set(counts)) > 1):
        raise InputError(f"{wrong}not possible with scenario={scenario_name}: {_NEED[scenario_name]}")
    if scenario_name == "class" and head != "full" and 1 in (counts if head == "separate" else counts[:1]):
        raise InputError(f"{wrong}not possible with scenario.head={head}: {_NEED[head]}")
    return counts


def _whole_numbers(key: str, values: Sequence[int]) -> list[int]:
    if not isinstance(values, Sequence) or not all(type(value) is int for value in values):
        raise InputError(f"benchmark.{key}={values}: a list of whole numbers is wanted")
    return list(values)
