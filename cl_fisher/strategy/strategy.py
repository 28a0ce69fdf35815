"""What a strategy is: a handful of hooks around the training of one task after the other."""

from abc import ABC
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

from torch import Tensor, nn
from torch.optim import Optimizer

from cl_fisher.bounds import NonNegative, check_choice, checked
from cl_fisher.dataset.examples import Examples
from cl_fisher.error import RunError
from cl_fisher.fisher import FisherMatrix
from cl_fisher.strategy.batch import Batch, Heads
from cl_fisher.strategy.proximal import metric
from cl_fisher.strategy.quadratic import QuadraticPenalty

Step = Literal["gradient", "proximal"]
"""How a quadratic penalty acts: as a gradient before each optimizer step, or solved exactly after it."""


class Strategy(ABC):  # noqa: B024 - every hook may be left empty
    """Knows the model and the data that it is shown; never the trainer, the configuration or the benchmark.

    In the order of a sequence: `begin_task`, `training_data`; then at each step `mix`, `loss`, backward,
    `add_gradient`, the optimizer's step, `after_step`; then `consolidate`, and `serving` for evaluation. What most
    strategies need, a quadratic penalty, is here and empty until `consolidate` puts something into it.

    It is no nn.Module: a network stored on it would otherwise join the model's parameters.
    """

    trains_on: ClassVar[Literal["task", "seen", "all"]] = "task"
    """What the stream trains on: each task, all tasks so far, or all tasks at once."""
    starts_anew: ClassVar[bool] = False
    """Whether each task begins with other weights, so that what the optimizer remembers is void."""
    reads_gradient: ClassVar[bool] = False
    """Whether `add_gradient` looks at the gradient of the loss, which nothing else must have changed by then."""
    chooses_data: ClassVar[bool] = False
    """Whether `training_data` changes what it is given."""
    remembers: ClassVar[bool] = False
    """Whether `consolidate` keeps examples: it is shown all of a task's then, whatever `fisher.samples` says."""
    reads_loss: bool = False
    """Whether `loss` takes the plain loss apart or replaces it, so that no other part must have changed it by then."""

    @checked
    def __init__(self, model: nn.Module, strength: NonNegative, step: Step = "gradient") -> None:
        check_choice("step", step, Step)
        self.model = model
        self.strength = strength
        self.step = step
        self.quadratic = QuadraticPenalty()

    def begin_task(self, number: int, heads: Heads) -> None:  # noqa: B027
        """Take note that task `number`, from 1, begins.

        `heads[t - 1]`: the outputs that compete for the examples of task t from now on, for all t up to `number`.
        """

    def _check_begun(self, number: int) -> None:
        """Raise `RunError` in a loop that does not tell of its tasks: `number`, that of the last one, is 0."""
        if number == 0:
            raise RunError(
                f"{type(self).__name__} does not know which task this is and which outputs belong to it: call "
                "begin_task(number, heads) before each task"
            )

    def training_data(self, tasks: Mapping[int, Examples]) -> Mapping[int, Examples]:
        """What the phase that begins is to train on, by task number; `tasks` is what it would be otherwise."""
        return tasks

    def mix(self, batch: Batch) -> Batch:
        """The batch that a step trains on, with examples of earlier tasks for instance."""
        return batch

    def loss(self, batch: Batch, logits: Tensor, loss: Tensor) -> Tensor:  # noqa: ARG002
        """The loss of a batch, given the mean negative log-likelihood (or what another part has made of it).

        `logits` [B, outputs] belong to all examples of the batch, as `mix` has left it.
        """
        return loss

    def add_gradient(self, parameters: Iterable[nn.Parameter] | None = None) -> None:
        """Add the gradient of the penalty to `.grad`: after backward, before clipping, once per optimizer step.

        With step="proximal" there is nothing to add. `parameters`: those that the optimizer about to step holds, where
        there are several optimizers; all if None.
        """
        if self.step == "gradient":
            self.quadratic.add_gradient(self.model, self.strength, parameters)

    def after_step(self, optimizer: Optimizer) -> None:
        """Act on the weights after each step of the optimizer: with step="proximal" the penalty does so here."""
        if self.step == "proximal":
            self.quadratic.proximal(self.model, self.strength, metric(optimizer))

    def penalty(self) -> float:
        """The value of the penalty at the current weights, strength included; 0.0 without one."""
        return 0.5 * self.strength * self.quadratic.value(self.model)

    def consolidate(
        self,
        batches: Iterable[Sequence[Any]],  # noqa: ARG002
        classes: Sequence[int] | None = None,  # noqa: ARG002
    ) -> FisherMatrix | None:
        """Take note of a finished task: its training batches and active classes. Returns the task's Fisher, if any."""
        return None

    def check(
        self,
        batches: Iterable[Sequence[Any]],  # noqa: ARG002
        classes: Sequence[int] | None = None,  # noqa: ARG002
    ) -> FisherMatrix | None:
        """Raise `InputError` if `consolidate` would on batches like these few; change nothing. Returns their Fisher."""
        return None

    @contextmanager
    def serving(self, task: int) -> Iterator[Callable[[Tensor], Tensor]]:  # noqa: ARG002
        """What predicts the examples of a task: inputs to scores [N, outputs], of which the largest active one wins.

        Entered in evaluation mode, without gradients; what is changed for it is put back afterwards.
        """
        yield self.model

    def curvature_bound(self) -> float:
        """Largest eigenvalue (or a bound of it) of what the penalty sums up, strength not included; 0.0 without one."""
        return self.quadratic.largest_eigenvalue()

    @property
    def merge_error(self) -> float:
        """Relative error of what is kept of all tasks together, in Frobenius norm; 0.0 where it is exact."""
        return self.quadratic.merge_error

    def memory(self) -> dict[str, Any]:
        """What must outlive a task beside the quadratic penalty, as tensors and plain containers."""
        return {}

    def recall(self, memory: dict[str, Any]) -> None:  # noqa: B027
        """Undo `memory`."""

    @property
    def state_bytes(self) -> int:
        """Memory that the strategy holds beside the model."""
        return self.quadratic.bytes + bytes_of(self.memory())

    def state_dict(self) -> dict[str, Any]:
        """All state, as tensors and plain containers."""
        return self.quadratic.state_dict() | {"memory": self.memory()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo `state_dict`."""
        self.quadratic.load_state_dict(state)
        self.recall(state["memory"])


def bytes_of(state: Any) -> int:
    """The bytes of all tensors in plain containers."""
    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    if isinstance(state, Mapping):
        return sum(map(bytes_of, state.values()))
    return sum(map(bytes_of, state)) if isinstance(state, (list, tuple)) else 0
