"""What a run tells the world while it goes on. Training sends events; reporting listens. Tasks are numbered from 1."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol


@dataclass(frozen=True)
class RunStarted:
    """Sent once, before anything is computed."""

    n_tasks: int
    """Tasks of the sequence (columns of the accuracy matrix)."""
    n_rows: int
    """Training phases (rows of the accuracy matrix): n_tasks, or 1 for joint training."""
    config: Mapping[str, Any]
    """The resolved configuration, plain containers only."""
    choices: Mapping[str, str]
    """What was chosen in each configuration group: {"strategy": "ewc", "fisher/estimator": "exact", ...}."""
    overrides: tuple[str, ...] = ()
    """What the user typed for this job, such as ("strategy=ewc", "seed=1")."""
    command: str = ""
    """The command line that runs this job again."""
    resumed_from: int = 0
    """The last task that was finished before, when a run is resumed; 0 for a new run."""


@dataclass(frozen=True)
class TaskStarted:
    """Training of a task begins."""

    task: int
    n_examples: int
    steps: int
    """Optimizer steps that this task will take."""
    epochs: int
    """Passes over the data (the last may be partial when iterations were asked for)."""


@dataclass(frozen=True)
class StepTaken:
    """Sent every `log_every` optimizer steps and after the last one of a task."""

    task: int
    epoch: int
    """From 1."""
    step: int
    """Optimizer steps within the task, from 1."""
    global_step: int
    """Optimizer steps since the start of the run; does not restart with a task."""
    loss: float
    """Mean task loss (negative log-likelihood per example) since the event before."""
    penalty: float
    """The strategy's penalty at this step, strength included; 0 without one."""


@dataclass(frozen=True)
class Consolidated:
    """The strategy has put what it keeps of a task into its state."""

    task: int
    global_step: int
    values: Mapping[str, Any]
    """estimator, structure, samples, seconds, bytes, trace, max, ..."""


@dataclass(frozen=True)
class Evaluated:
    """A row of the accuracy matrix; after_task=0 is the network at initialisation."""

    after_task: int
    global_step: int
    split: Literal["test", "validation"]
    accuracy: tuple[float | None, ...]
    """Fraction of each task's examples; None where it is undefined (classes that no output unit stands for yet)."""
    counts: tuple[int, ...]
    """Examples of each task."""


@dataclass(frozen=True)
class Probed:
    """All tasks begun were evaluated while one of them is trained (`eval_every`)."""

    task: int
    """The one in training."""
    step: int
    """Optimizer steps within the task; 0: right before its first."""
    global_step: int
    accuracy: tuple[float | None, ...]
    """Test accuracy of task 1, 2, ..., as many as have been begun, as in `Evaluated`."""
    counts: tuple[int, ...]
    """Examples of each task that were looked at."""


@dataclass(frozen=True)
class TaskEnded:
    """A row is complete: trained, consolidated, evaluated."""

    task: int
    global_step: int
    summary: Mapping[str, Any]
    """The content of metrics.json so far."""
    costs: Mapping[str, float] = field(default_factory=dict)
    """What this task took: seconds_train, seconds_fisher, seconds_eval, peak_memory_bytes, state_bytes, extra_passes
    (examples looked at beyond the plain training stream, per training example of the task)."""


@dataclass(frozen=True)
class Regions:
    """Where inputs are points of the plane: what is predicted at many of them; equally long columns.

    After a task, a regular grid, x running faster; after_task=0: a task's test points with the right units.
    """

    after_task: int
    task: int
    """Whose example each place is taken for."""
    x: tuple[float, ...]
    y: tuple[float, ...]
    unit: tuple[int, ...]
    """Output units."""
    probability: tuple[float, ...]
    """Of that unit, among those that compete."""


@dataclass(frozen=True)
class RunEnded:
    """Sent once, also after a failure or an interruption."""

    status: Literal["finished", "failed", "interrupted"]
    global_step: int
    summary: Mapping[str, Any] = field(default_factory=dict)
    """The content of metrics.json; final is true only if finished."""
    error: str = ""


Event = RunStarted | TaskStarted | StepTaken | Consolidated | Evaluated | Probed | Regions | TaskEnded | RunEnded


class Listener(Protocol):
    """Anything that wants to know: the run folder, wandb, TensorBoard, the terminal."""

    def handle(self, event: Event) -> None:
        """Take notice of an event. Must not change anything in the run."""

    def state_dict(self) -> dict[str, Any]:
        """What must survive a resume, such as a logger's run id; plain containers and numbers only."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the state of an earlier process."""
