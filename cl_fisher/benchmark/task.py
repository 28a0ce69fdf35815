"""A task sequence: what a benchmark makes of a data set."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from cl_fisher.benchmark.rule import HeadName, check_scenario
from cl_fisher.benchmark.rule import ScenarioName as ScenarioName
from cl_fisher.dataset.examples import Examples


@dataclass(frozen=True)
class Scenario:
    """What is known at test time (van de Ven et al. 2022, "Three types of incremental learning")."""

    name: ScenarioName
    head: HeadName = "growing"
    """Class-incremental only: whether unseen classes already compete."""

    def __post_init__(self) -> None:
        check_scenario(self.name, self.head)

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
