"""Split images (Zenke et al. 2017): the classes are dealt out over the tasks."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from cl_fisher.benchmark.rule import check_split
from cl_fisher.benchmark.task import Scenario, Task, TaskSequence
from cl_fisher.benchmark.validation import hold_out
from cl_fisher.bounds import Count, Fraction, Index, checked
from cl_fisher.dataset.examples import DataSet, Examples
from cl_fisher.error import InputError
from cl_fisher.seeding import generator


@checked
def split(
    dataset: DataSet,
    scenario: Scenario,
    n_tasks: Count,
    seed: Index,
    validation_fraction: Fraction,
    class_order: str | Sequence[int] = "random",
    sizes: Sequence[int] | None = None,
    order_seed: Index | None = None,
) -> TaskSequence:
    """`n_tasks` tasks of different classes, dealt out in `class_order`: random, natural, or a list of them.

    A random order is drawn by `order_seed` (None: `seed`).

    `sizes` is the number of classes of each task (default: as even as possible, larger tasks first). What the order
    and the sizes leave over is not used. A class's output unit is its place in the order; with scenario=domain its
    place within the task.

    Raises:
        InputError: The classes cannot be dealt out like this, or a task has no examples.
    """
    counts = check_split(n_tasks, dataset.n_classes, scenario.name, class_order, sizes, scenario.head)
    order = iter(_order(class_order, dataset.n_classes, seed if order_seed is None else order_seed))
    train, validation = hold_out(dataset.train, validation_fraction, seed)
    units = scenario.units(counts)
    tasks = []
    for number, own in enumerate(units, start=1):
        classes = [next(order) for _ in own]
        task = Task(
            number=number,
            train=_restrict(train, classes, own),
            validation=_restrict(validation, classes, own),
            test=_restrict(dataset.test, classes, own),
            units=own,
        )
        for name, part in (("training", task.train), ("test", task.test)):
            if len(part) == 0:
                raise InputError(f"task {number} of benchmark=split has no {name} examples: its classes are {classes}")
        tasks.append(task)
    return TaskSequence(tuple(tasks), scenario, n_outputs=units[-1].stop)


def _order(class_order: str | Sequence[int], n_classes: int, seed: int) -> Sequence[int]:
    if class_order == "natural":
        return range(n_classes)
    if class_order == "random":
        return torch.randperm(n_classes, generator=generator(seed, "class_order")).tolist()
    return [int(label) for label in class_order]


def _restrict(examples: Examples, classes: list[int], units: range) -> Examples:
    """The examples of these classes; `units[i]` becomes the target of `classes[i]`."""
    of_task = examples.subset(torch.isin(examples.targets, torch.tensor(classes)).nonzero().flatten())
    targets = torch.empty_like(of_task.targets)
    for label, unit in zip(classes, units, strict=True):
        targets[of_task.targets == label] = unit
    return replace(of_task, targets=targets)
