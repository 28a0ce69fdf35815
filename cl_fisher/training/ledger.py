"""What a run has found so far: accuracy matrices, seconds, sizes; and the summary that metrics.json holds."""

import platform
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from cl_fisher.event import Evaluated, Probed
from cl_fisher.metric import reference, stability
from cl_fisher.metric.continual import summary


class Ledger:
    """Takes note of evaluations and of where the time goes; all of it survives a resume but `references`.

    Args:
        joint: whether all tasks are trained on together.
        references: accuracy matrices of runs to compare with, by strategy.
    """

    def __init__(self, joint: bool, references: reference.References | None = None) -> None:
        self.joint = joint
        self.references = references or {}
        self.rows: dict[str, list[list[float | None]]] = {"test": [], "validation": []}
        self.at_initialisation: dict[str, list[float | None]] = {}
        self.seconds = {"train": 0.0, "fisher": 0.0, "eval": 0.0, "total": 0.0}
        self.course: list[stability.Measured] = []
        self.extra_passes = 0.0
        self._running: list[str] = []

    @contextmanager
    def clock(self, what: str) -> Iterator[None]:
        """Add the time spent within to `what`; an interruption's share is added too.

        Within another clock than the total's it stops that one: evaluation in the middle of training is evaluation.
        """
        start = time.perf_counter()
        self._running.append(what)
        try:
            yield
        finally:
            self._running.pop()
            seconds = time.perf_counter() - start
            self.seconds[what] += seconds
            if self._running and self._running[-1] != "total":
                self.seconds[self._running[-1]] -= seconds

    def note(self, event: Evaluated | Probed) -> None:
        """Keep a row of an accuracy matrix, or what was measured within a task."""
        if isinstance(event, Probed):
            self.course.append(stability.Measured(event.task, event.step, event.accuracy))
        elif event.after_task == 0:
            self.at_initialisation[event.split] = list(event.accuracy)
        else:
            self.rows[event.split].append(list(event.accuracy))

    def metrics(self, split: str) -> dict[str, Any]:
        """The continual-learning metrics and the matrix of one split."""
        initial = self.at_initialisation.get(split)
        return summary(self.rows[split], initial, self.joint) | {
            "accuracy": self.rows[split],
            "accuracy_at_initialisation": initial,
        }

    def during(self) -> dict[str, Any]:
        """The metrics of continual evaluation; None without it."""
        if self.joint or not self.course:
            return dict.fromkeys((*stability.KEYS, "stability_gaps"))
        return stability.summary(self.course) | {"stability_gaps": stability.stability_gaps(self.course)}

    def against_references(self) -> dict[str, float | None]:
        """The metrics that compare with other runs."""
        return reference.summary(self.rows["test"], self.references, self.joint)

    def state_dict(self) -> dict[str, Any]:
        """Everything."""
        return {
            "rows": self.rows,
            "at_initialisation": self.at_initialisation,
            "seconds": self.seconds,
            "course": [[m.task, m.step, list(m.accuracy)] for m in self.course],
            "extra_passes": self.extra_passes,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo `state_dict`."""
        self.rows, self.at_initialisation, self.seconds = state["rows"], state["at_initialisation"], state["seconds"]
        self.course = [stability.Measured(*measured) for measured in state["course"]]
        self.extra_passes = state["extra_passes"]


def forget_peak_memory() -> None:
    """Count the peak from here on: the cells of a multirun share a process. No system but Linux can, but GPUs do."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):  # a container may forbid it; the peak is then that of the process, as elsewhere
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_bytes() -> int:
    """The most that this process has held since `forget_peak_memory`: of the GPU where one is used, else resident."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated() > 0:
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def versions() -> dict[str, str]:
    """What a result may depend on."""
    packages = ("cl_fisher", "torch", "lightning", "torchvision", "hydra-core", "wandb", "numpy")
    return {name: version(name) for name in packages} | {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
    }


def processor() -> str:
    """The processor's name, and how many threads torch uses of it."""
    name = platform.processor() or platform.machine()
    if sys.platform == "linux":
        with open("/proc/cpuinfo") as file:
            name = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), name)
    if torch.cuda.is_available():
        name += f", {torch.cuda.get_device_name()}"
    return f"{name}, {torch.get_num_threads()} threads"
