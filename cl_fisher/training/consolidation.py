"""What a strategy takes note of at the end of a task, or every n steps, and what is told of it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from cl_fisher.benchmark.task import TaskSequence
from cl_fisher.dataset.examples import Examples
from cl_fisher.event import Consolidated, Event
from cl_fisher.fisher.structure.matrix import FisherMatrix
from cl_fisher.seeding import generator
from cl_fisher.strategy.strategy import Strategy
from cl_fisher.training.batches import PhaseData, ReadingBatches
from cl_fisher.training.ledger import Ledger
from cl_fisher.training.phase import Phase, heads


class Consolidation:
    """Hands a phase's examples to the strategy and tells what came of it.

    Args:
        sequence: the tasks.
        model: the network; its type is that of the inputs handed over.
        strategy: what consolidates.
        ledger: where its seconds are booked.
        send: who is told.
        seed: draws the examples.
        samples: how many are drawn; None: all. A strategy that remembers examples chooses among all in any case.
        shuffled: whether all are read in random order, so that an estimate may stop before the last.
    """

    def __init__(
        self,
        sequence: TaskSequence,
        model: nn.Module,
        strategy: Strategy,
        ledger: Ledger,
        send: Callable[[Event], None],
        seed: int,
        samples: int | None,
        shuffled: bool = False,
    ) -> None:
        self.sequence, self.model, self.strategy = sequence, model, strategy
        self.ledger, self.send, self.seed, self.samples, self.shuffled = ledger, send, seed, samples, shuffled
        self.n_read = 0
        """Examples read so far; one that is read twice counts twice."""

    def end_task(self, phase: Phase, global_step: int) -> None:
        """Take note of the phase's own examples, as many as are asked for."""
        data = self._own(phase)
        shown = self._shown(torch.arange(len(data)), generator(self.seed, "fisher", phase.seen))
        self._take(phase, self._readable(data, shown), global_step)

    def take(self, phase: Phase, data: PhaseData, which: Tensor, global_step: int) -> None:
        """Take note of examples at these positions, as many as are asked for.

        For all of `data` the same outputs must compete as for the phase's own.
        """
        shown = self._shown(which, generator(self.seed, "fisher", phase.seen, global_step))
        self._take(phase, self._readable(data, shown), global_step)

    def _shown(self, which: Tensor, draw: torch.Generator) -> Tensor:
        """Which of these positions are read, and in which order."""
        n = len(which) if self.samples is None else min(self.samples, len(which))
        if n == len(which) and not self.shuffled:
            return which
        order = which[torch.randperm(len(which), generator=draw)]
        return order if self.strategy.remembers else order[:n]

    def _take(self, phase: Phase, examples: ReadingBatches, global_step: int) -> None:
        before = self.ledger.seconds["fisher"]
        with self.ledger.clock("fisher"):
            fisher = self.strategy.consolidate(examples, self._classes(phase))
        self.n_read += examples.n_read
        if fisher is None:
            return
        values = {key: fisher.info[key] for key in ("estimator", "structure", "samples")} | {
            "seconds": self.ledger.seconds["fisher"] - before,
            "bytes": fisher.bytes,
            "trace": fisher.trace(),
            "max": fisher.largest_eigenvalue(),
        }
        checked = {key: value for key, value in fisher.info.get("check", {}).items() if key != "trace"}
        error = {"merge_error": self.strategy.merge_error}
        if "relative_error" in fisher.info:
            error["relative_error"] = fisher.info["relative_error"]
        model = {"model": fisher.info["model"]} if "model" in fisher.info else {}
        self.send(Consolidated(phase.number, global_step, values | error | checked | model))

    def rehearse(self, phase: Phase) -> FisherMatrix | None:
        """Raise `InputError` if the strategy could not take note of this phase, tried on a few examples."""
        data = self._own(phase)
        few = self._readable(data, torch.arange(min(4, len(data))))
        with stirred(self.model, self.seed):
            return self.strategy.check(few, self._classes(phase))

    def alike(self, phase: Phase, data: Mapping[int, Examples]) -> PhaseData:
        """What one Fisher can be taken of: the examples for which the same outputs compete as for the task's own."""
        competing = heads(self.sequence, phase)
        return PhaseData({n: part for n, part in data.items() if competing[n - 1] == competing[phase.seen - 1]})

    def _own(self, phase: Phase) -> PhaseData:
        """What a task's end takes note of: not what bounds train on beside the task."""
        own = phase.data if self.strategy.trains_on == "task" else {phase.seen: phase.data[phase.seen]}
        return self.alike(phase, own)

    def _classes(self, phase: Phase) -> range | None:
        return self.sequence.trained(self.sequence.tasks[phase.seen - 1], phase.seen)

    def _readable(self, data: PhaseData, which: Tensor) -> ReadingBatches:
        dtype = next(self.model.parameters()).dtype  # a Trainer of another precision leaves the model in it
        return ReadingBatches(data, which, dtype)


@contextmanager
def stirred(model: nn.Module, seed: int) -> Iterator[None]:
    """Parameters that learn and are zero everywhere are drawn, and zero again on leaving.

    An output layer at zero (vision transformers), or an adapter's B, would let no gradient through to what lies before
    it, which then looked as if it took no part in the outputs.
    """
    zero = [p for p in model.parameters() if p.requires_grad and not is_lazy(p) and not p.any()]
    draw = generator(seed, "rehearsal")
    with torch.no_grad():
        for p in zero:
            p.copy_(0.01 * torch.randn(p.shape, generator=draw))
    try:
        yield
    finally:
        with torch.no_grad():
            for p in zero:
                p.zero_()
