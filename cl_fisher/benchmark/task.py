"""A task sequence: what a benchmark makes of a data set."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from cl_fisher.benchmark.rule import HeadName, OldRows, check_scenario
from cl_fisher.benchmark.rule import ScenarioName as ScenarioName
from cl_fisher.bounds import Fraction
from cl_fisher.dataset.examples import Examples


@dataclass(frozen=True)
class Scenario:
    """What is known at test time (van de Ven et al. 2022, "Three types of incremental learning")."""

    name: ScenarioName
    head: HeadName = "growing"
    """Class-incremental only: whether classes not seen yet already compete ("full"), and whether in training only the
    task's own do ("separate"; Ahn et al. 2021, "SS-IL", sec. 4.1, call it separated softmax)."""
    old_rows: OldRows = "penalised"
    """What happens to the rows of the output layer that stand for earlier tasks' classes: like any weight the penalty's
    ("penalised"), fixed ("frozen"), or kept out of the penalty ("free")."""
    blur: Fraction = 0.0
    """Fraction of each task's training examples that come at the times of the others: see `blur.py`."""

    def __post_init__(self) -> None:
        check_scenario(self.name, self.head, self.old_rows, self.blur)

    def units(self, sizes: Sequence[int]) -> list[range]:
        """Output units of each task, given its number of classes: shared if domain-incremental, else one by one."""
        if self.name == "domain":
            return [range(size) for size in sizes]
        return [range(stop - size, stop) for size, stop in zip(sizes, accumulate(sizes), strict=True)]


@dataclass(frozen=True)
class Task:
    """One task of a sequence."""

    number: int
    """From 1."""
    train: Examples
    validation: Examples
    """Held out of the training data; may be empty."""
    test: Examples
    units: range
    """The output units that stand for this task's classes. Targets lie in this range."""


@dataclass(frozen=True)
class TaskSequence:
    """Tasks in the order of training, with the output layer that they need."""

    tasks: tuple[Task, ...]
    scenario: Scenario
    n_outputs: int

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input: channels, height, width."""
        return self.tasks[0].train.shape

    def active(self, task: Task, seen: int) -> range | None:
        """Output units that compete when `task` is predicted after `seen` tasks were begun (training task t: seen = t).

        None where no prediction is possible: classes that a growing head does not have yet.
        """
        if self.scenario.name != "class":
            return task.units
        if self.scenario.head == "full":
            return range(self.n_outputs)
        return range(self.tasks[seen - 1].units.stop) if task.number <= seen else None

    def trained(self, task: Task, seen: int) -> range | None:
        """Output units that compete for the task's examples in training; `active` but for separate heads."""
        return task.units if self.scenario.head == "separate" else self.active(task, seen)
