"""Which numbers of an event become points of which curve, the same for every logger."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cl_fisher.event import Consolidated, Evaluated, Event, Probed, StepTaken, TaskEnded
from cl_fisher.reporting.run_folder import METRICS

Axis = Literal["task", "global_step"]
AXIS: dict[str, Axis] = {
    "train/*": "global_step",
    "test/acc/*": "task",
    "test/acc_during/*": "global_step",
    "validation/acc/*": "task",
    "fisher/*": "task",
    "cl/*": "task",
}
"""The horizontal axis of each family of curves. `task` counts the tasks trained on so far; 0 is the initialisation."""


@dataclass(frozen=True)
class Points:
    """Values of several curves at one position of their common axis."""

    axis: Axis
    position: int
    values: dict[str, float]


class Curves:
    """Turns events into points.

    It remembers how many tasks have been trained on: joint training has seen all of them after its only phase.
    """

    def __init__(self) -> None:
        self.trained_on = 0

    def after(self, matrix: list[Any]) -> list[int] | None:
        """The task that each row comes after, where it is not 1, 2, ...: as `accuracy_heatmap` takes it."""
        return [self.trained_on] if len(matrix) == 1 else None

    def points(self, event: Event) -> Points | None:
        """The points of an event, without undefined values; None if it has none."""
        match event:
            case StepTaken():
                train = {"train/loss": event.loss, "train/penalty": event.penalty}
                return Points("global_step", event.global_step, defined(train))
            case Consolidated():
                numbers = {key: value for key, value in event.values.items() if isinstance(value, float | int)}
                fisher = {f"fisher/{key}": value for key, value in numbers.items()}
                return Points("task", event.task, defined(fisher))
            case Evaluated():
                self.trained_on = event.after_task
                row = {f"{event.split}/acc/task_{task}": acc for task, acc in enumerate(event.accuracy, start=1)}
                return Points("task", event.after_task, defined(row))
            case Probed():
                row = {f"test/acc_during/task_{task}": acc for task, acc in enumerate(event.accuracy, start=1)}
                return Points("global_step", event.global_step, defined(row))
            case TaskEnded():
                return Points("task", self.trained_on, final(event.summary))
        return None


def final(summary: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of continual learning within the content of metrics.json."""
    return defined({f"cl/{name}": summary.get(name) for name in METRICS})


def defined(values: Mapping[str, Any]) -> dict[str, float]:
    """Only the finite numbers."""
    return {key: value for key, value in values.items() if value is not None and math.isfinite(value)}
