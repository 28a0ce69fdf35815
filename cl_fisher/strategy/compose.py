"""Several strategies at once, such as replay with a penalty."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from cl_fisher.bounds import NonNegative, checked
from cl_fisher.dataset.examples import Examples
from cl_fisher.error import InputError
from cl_fisher.fisher import FisherMatrix
from cl_fisher.strategy.batch import Batch, Heads
from cl_fisher.strategy.strategy import Strategy

_CLAIMS: dict[str, Callable[[Strategy], bool]] = {
    "decide over serving": lambda part: type(part).serving is not Strategy.serving,
    "decide over trains_on": lambda part: part.trains_on != "task",
    "decide over starts_anew": lambda part: part.starts_anew,
    "must see the gradient first": lambda part: part.reads_gradient,
    "must see the loss first": lambda part: part.reads_loss,
    "have step=proximal, where each one's exact solution would undo the other's": lambda part: part.step == "proximal",
}
"""What one part at most may do."""


class Compose(Strategy):
    """Every hook is that of each part in turn; a batch, a loss and training data pass through all of them.

    A part that looks at the gradient of the loss (`reads_gradient`: SI, RWalk) adds its own first, wherever it stands;
    so does one that acts on the plain loss (`reads_loss`: iCaRL, ER with weighting="tasks") to the loss.

    Args:
        model: the network.
        parts: by name, what makes a strategy from the model (a class, or a `functools.partial` of one).
        strength: only tells that something protects (and is what the parts' configuration may refer to); 0 does not
            turn the parts off, whose own strengths do.

    Raises:
        InputError: there is no part, or more than one wants to choose what is trained on or how to predict, or must see
            the gradient or the loss first, or solves its penalty exactly.
    """

    @checked
    def __init__(
        self, model: nn.Module, parts: Mapping[str, Callable[..., Strategy]], strength: NonNegative = 100.0
    ) -> None:
        super().__init__(model, strength)
        if not parts:
            raise InputError("strategy.parts is empty: a composition needs at least one strategy")
        self.parts = {name: make(model=model) for name, make in parts.items()}
        for claim, claims in _CLAIMS.items():
            own = [name for name, part in self.parts.items() if claims(part)]
            if len(own) > 1:
                raise InputError(f"strategy.parts: {' and '.join(own)} do not go together, both {claim}")
        self._server = next((p for p in self.parts.values() if type(p).serving is not Strategy.serving), None)
        self.trains_on = next((p.trains_on for p in self.parts.values() if p.trains_on != "task"), "task")  # type: ignore[misc]
        self.reads_gradient = any(p.reads_gradient for p in self.parts.values())  # type: ignore[misc]
        self.starts_anew = any(p.starts_anew for p in self.parts.values())  # type: ignore[misc]
        self.chooses_data = any(p.chooses_data for p in self.parts.values())  # type: ignore[misc]
        self.remembers = any(p.remembers for p in self.parts.values())  # type: ignore[misc]
        self.reads_loss = any(p.reads_loss for p in self.parts.values())
        self.step = "gradient" if all(p.step == "gradient" for p in self.parts.values()) else "proximal"

    def begin_task(self, number: int, heads: Heads) -> None:
        """All of them."""
        for part in self.parts.values():
            part.begin_task(number, heads)

    def training_data(self, tasks: Mapping[int, Examples]) -> Mapping[int, Examples]:
        """One after the other."""
        for part in self.parts.values():
            tasks = part.training_data(tasks)
        return tasks

    def mix(self, batch: Batch) -> Batch:
        """One after the other."""
        for part in self.parts.values():
            batch = part.mix(batch)
        return batch

    def loss(self, batch: Batch, logits: Tensor, loss: Tensor) -> Tensor:
        """One after the other, one that acts on the plain loss before the others."""
        for part in sorted(self.parts.values(), key=lambda part: not part.reads_loss):
            loss = part.loss(batch, logits, loss)
        return loss

    def add_gradient(self, parameters: Iterable[nn.Parameter] | None = None) -> None:
        """All of them, one that looks at the gradient before the others."""
        wanted = None if parameters is None else list(parameters)
        for part in sorted(self.parts.values(), key=lambda part: not part.reads_gradient):
            part.add_gradient(wanted)

    def after_step(self, optimizer: Optimizer) -> None:
        """All of them."""
        for part in self.parts.values():
            part.after_step(optimizer)

    def penalty(self) -> float:
        """Of all parts together."""
        return sum(part.penalty() for part in self.parts.values())

    def consolidate(
        self, batches: Iterable[Sequence[Any]], classes: Sequence[int] | None = None
    ) -> FisherMatrix | None:
        """All of them; the Fisher of the first that has one.

        Raises:
            InputError: `batches` is an iterator, and there is more than one part to be given it.
        """
        self._check_readable(batches, "consolidate")
        found = [part.consolidate(batches, classes) for part in self.parts.values()]
        return next((fisher for fisher in found if fisher is not None), None)

    def check(self, batches: Iterable[Sequence[Any]], classes: Sequence[int] | None = None) -> FisherMatrix | None:
        """All of them; see `consolidate`."""
        self._check_readable(batches, "check")
        found = [part.check(batches, classes) for part in self.parts.values()]
        return next((fisher for fisher in found if fisher is not None), None)

    def _check_readable(self, batches: Iterable[Sequence[Any]], hook: str) -> None:
        given = [n for n, p in self.parts.items() if getattr(type(p), hook) is not getattr(Strategy, hook)]
        if len(given) > 1 and isinstance(batches, Iterator):
            raise InputError(
                f"strategy.parts: {' and '.join(given)} are each given the batches, but `batches` is an iterator that "
                "is used up by one reading: give a list or a DataLoader"
            )

    @contextmanager
    def serving(self, task: int) -> Iterator[Callable[[Tensor], Tensor]]:
        """That of the part that has a way of its own."""
        if self._server is None:
            yield self.model
            return
        with self._server.serving(task) as predict:
            yield predict

    def curvature_bound(self) -> float:
        """The sum of the parts' bounds, each for its share of the strength; 0.0 if nothing pulls by gradients."""
        share = {name: p.strength / self.strength if self.strength else 0.0 for name, p in self.parts.items()}
        return sum(share[name] * part.curvature_bound() for name, part in self.parts.items())

    @property
    def merge_error(self) -> float:
        """The largest."""
        return max(part.merge_error for part in self.parts.values())

    @property
    def state_bytes(self) -> int:
        """Of all parts."""
        return sum(part.state_bytes for part in self.parts.values())

    def memory(self) -> dict[str, Any]:
        """The states of the parts."""
        return {name: part.state_dict() for name, part in self.parts.items()}

    def recall(self, memory: dict[str, Any]) -> None:
        """Undo `memory`."""
        for name, part in self.parts.items():
            part.load_state_dict(memory[name])
