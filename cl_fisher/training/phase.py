"""Which tasks are trained on when."""

from dataclasses import dataclass

from cl_fisher.benchmark.task import Task, TaskSequence
from cl_fisher.strategy.strategy import Strategy


@dataclass(frozen=True)
class Phase:
    """One training phase: a row of the accuracy matrix."""

    number: int
    """From 1."""
    tasks: tuple[Task, ...]
    """What is trained on."""
    seen: int
    """How many tasks of the sequence have been begun when it ends."""


def phases_of(sequence: TaskSequence, strategy: Strategy) -> list[Phase]:
    """One phase a task, on that task or on all tasks so far; or a single phase on all of them."""
    tasks = sequence.tasks
    if strategy.trains_on == "all":
        return [Phase(1, tasks, len(tasks))]
    return [Phase(t.number, tasks[: t.number] if strategy.trains_on == "seen" else (t,), t.number) for t in tasks]
