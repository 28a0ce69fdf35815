"""What a person sees while a run goes on: a live display on a terminal, plain lines in a log file."""

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from cl_fisher.event import Consolidated, Evaluated, Event, RunEnded, RunStarted, StepTaken, TaskEnded, TaskStarted

REFRESH_SECONDS = 0.25  # a refresh takes about a millisecond


class Terminal:
    """Shows the progress of a run, and one line when it is over.

    Args:
        verbosity: 0: a failure only; 1: the live display, or a line per task; 2: also the Fisher of every task.
        cell: What distinguishes this run within a multirun; its lines begin with it. A cell leaves one line behind.
        console: Where to write; None: standard output.
    """

    def __init__(self, verbosity: int, cell: str = "", console: Console | None = None) -> None:
        self.verbosity = verbosity
        self.cell = cell
        self.console = console or Console()
        self._bars: Bars | None = None
        self._n_rows = 0
        self._loss: float | None = None
        self._accuracy: float | None = None
        self._started = self._task_started = time.monotonic()

    def handle(self, event: Event) -> None:
        """Show what the event brings."""
        match event:
            case RunStarted():
                self._n_rows = event.n_rows
                self._started = time.monotonic()
                if self.verbosity > 0 and self.console.is_terminal and not self.console.is_dumb_terminal:
                    self._bars = Bars(self.console, self.cell, event)
            case TaskStarted():
                self._task_started = time.monotonic()
                if self._bars:
                    self._bars.task(event)
            case StepTaken():
                self._loss = event.loss
                if self._bars:
                    self._bars.step(event)
            case Consolidated() if self.verbosity > 1:
                self._line(f"task {event.task}/{self._n_rows}  Fisher: {_words(event.values)}")
            case Evaluated(split="test") if 1 <= event.after_task <= self._n_rows:
                self._accuracy = event.accuracy[event.after_task - 1]
            case TaskEnded():
                if self._bars:
                    self._bars.task_ended(event)
                if self._wants_task_lines():
                    self._line(self._task_line(event))
            case RunEnded():
                self._end(event)

    def state_dict(self) -> dict[str, Any]:
        """There is no state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """There is no state."""

    def _wants_task_lines(self) -> bool:
        plain = self.verbosity > 0 and self._bars is None and not self.cell
        return plain or self.verbosity > 1

    def _task_line(self, event: TaskEnded) -> str:
        values = {"loss": self._loss, "acc": _percent(self._accuracy)} | _so_far(event.summary)
        seconds = time.monotonic() - self._task_started
        return f"task {event.task}/{self._n_rows}  {_words(values)}  {seconds:.0f} s"

    def _end(self, event: RunEnded) -> None:
        if self._bars:
            self._bars.close()
            self._bars = None
        if self.verbosity == 0 and event.status != "failed":
            return
        seconds = time.monotonic() - self._started
        words = f"failed: {event.error}" if event.status == "failed" else f"{event.status} in {seconds:.0f} s"
        numbers = _words(_so_far(event.summary)) if event.status == "finished" else ""
        self._line(f"{words}  {numbers}".rstrip())

    def _line(self, text: str) -> None:
        prefix = f"{self.cell}  " if self.cell else ""
        self.console.print(prefix + text, markup=False, highlight=False, soft_wrap=True)


class Bars:
    """The live display: a bar over the tasks, and one over the steps of the present task.

    It is redrawn by the training's own thread, four times a second at most, which is less than 1 % of the time.
    What others print meanwhile appears above it.
    """

    def __init__(self, console: Console, cell: str, event: RunStarted) -> None:
        text = TextColumn("{task.description}", markup=False)
        info = TextColumn("{task.fields[info]}", markup=False, style="dim")
        room = max(console.width // 3, 8)  # a cell's folder has a long name, and the numbers matter more
        name = cell if len(cell) <= room else f"{cell[: room - 1]}…"
        columns = (text, BarColumn(bar_width=20), MofNCompleteColumn(), TimeElapsedColumn(), info)
        self._progress = Progress(*columns, console=console, auto_refresh=False, transient=True)
        self._n_rows = event.n_rows
        self._run: TaskID = self._progress.add_task(name or "tasks", total=event.n_rows, info="")
        self._progress.update(self._run, completed=event.resumed_from)
        self._steps: TaskID = self._progress.add_task("starting", total=None, info="", visible=False)
        self._drawn = time.monotonic()
        self._progress.start()

    def task(self, event: TaskStarted) -> None:
        """Begin the bar of a task."""
        words = f"task {event.task}/{self._n_rows}"
        self._progress.reset(self._steps, total=event.steps, description=words, visible=True, info="")
        self._draw()

    def step(self, event: StepTaken) -> None:
        """Move on within the task."""
        last = event.step == self._progress.tasks[self._steps].total
        if last or time.monotonic() - self._drawn > REFRESH_SECONDS:
            words = f"epoch {event.epoch}  loss {event.loss:.3g}  penalty {event.penalty:.3g}"
            self._progress.update(self._steps, completed=event.step, info=words + ("  evaluating" if last else ""))
            self._draw()

    def task_ended(self, event: TaskEnded) -> None:
        """Move on to the next task."""
        self._progress.update(self._run, completed=event.task, info=_words(_so_far(event.summary)))
        self._draw()

    def close(self) -> None:
        """Take the display away; the terminal is as it was."""
        self._progress.stop()

    def _draw(self) -> None:
        self._progress.refresh()
        self._drawn = time.monotonic()


def _so_far(summary: Mapping[str, Any]) -> dict[str, Any]:
    return {"avg": _percent(summary.get("avg_accuracy")), "forgetting": _percent(summary.get("forgetting"))}


def _percent(fraction: float | None) -> str | None:
    """As in the table that follows."""
    return None if fraction is None else f"{round(100 * fraction, 1) + 0.0:.1f} %"


def _words(values: Mapping[str, Any]) -> str:
    """Names and numbers on one line, without what is undefined."""
    numbers = {key: f"{v:.3g}" if isinstance(v, float) else str(v) for key, v in values.items() if v is not None}
    return "  ".join(f"{key} {number}" for key, number in numbers.items())
