"""Which tasks are trained on when."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from cl_fisher.benchmark.blur import blurred
from cl_fisher.benchmark.task import TaskSequence
from cl_fisher.dataset.examples import Examples
from cl_fisher.strategy.strategy import Strategy


@dataclass(frozen=True)
class Phase:
    """One training phase: a row of the accuracy matrix."""

    number: int
    """From 1."""
    data: Mapping[int, Examples]
    """What is trained on, by task number."""
    seen: int
    """How many tasks of the sequence have been begun when it ends."""


def phases_of(sequence: TaskSequence, strategy: Strategy, seed: int = 0) -> list[Phase]:
    """One phase a task, on that task or on all tasks so far; or a single phase on all of them.

    Blurred boundaries (`seed` draws them) lend each task's phase examples of the others.
    """
    tasks = {task.number: task for task in sequence.tasks}
    if strategy.trains_on == "all":
        return [Phase(1, {n: task.train for n, task in tasks.items()}, len(tasks))]
    times = blurred([len(task.train) for task in sequence.tasks], sequence.scenario.blur, seed)
    if strategy.trains_on == "seen":
        times = [_together(times[: i + 1]) for i in range(len(times))]
    return [
        Phase(i, {n: _part(tasks[n].train, which) for n, which in time.items()}, i)
        for i, time in enumerate(times, start=1)
    ]


def heads(sequence: TaskSequence, phase: Phase) -> list[range | None]:
    """By task, as far as training has got to see: which outputs compete for its examples.

    With blurred boundaries these are all tasks: a memory may hold any, also one that this phase has no examples of.
    """
    tasks = sequence.tasks if sequence.scenario.blur > 0 else sequence.tasks[: phase.seen]
    return [sequence.trained(task, phase.seen) for task in tasks]


def _together(times: list[dict[int, Tensor]]) -> dict[int, Tensor]:
    named = sorted({n for time in times for n in time})
    return {n: torch.cat([time[n] for time in times if n in time]).sort().values for n in named}


def _part(examples: Examples, which: Tensor) -> Examples:
    return examples if len(which) == len(examples) else examples.subset(which)
