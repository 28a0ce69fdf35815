"""Learning without forgetting: the network's old answers to the new inputs are to stay what they were."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cl_fisher.bounds import NonNegative, Positive, check_choice, checked
from cl_fisher.strategy.batch import Batch, Heads, ends, ranges
from cl_fisher.strategy.strategy import Strategy
from cl_fisher.strategy.teacher import teacher

Weighting = Literal["sum", "mean", "share"]
Over = Literal["old", "current"]


class LwF(Strategy):
    """Distils the network of the last task's end on the inputs of the current batch (Li & Hoiem 2017, eq. 2 to 4).

    The teacher is a frozen copy in evaluation mode: no dropout, running statistics. For each earlier task

        D = mean over the batch of KL(softmax(z_teacher / temperature) || softmax(z / temperature))

    over the outputs that competed for that task's examples when the teacher was made: its own head if
    task-incremental, the shared one if domain-incremental, all classes so far if class-incremental. There is no factor
    temperature^2, as in the paper, so gradients shrink by about that much. In task t, with m the mean of the t - 1
    losses D, which are all the same where tasks share their outputs, the loss L becomes

        sum:   L + strength (t - 1) m                            (Li & Hoiem; van de Ven et al. 2022, task and domain)
        mean:  L + strength m                                    (van de Ven et al. 2022, class)
        share: (L + strength (t - 1) m) / (1 + strength (t - 1)) (van de Ven & Tolias 2019: L / t + (1 - 1/t) m)

    at a strength of 1 in all these papers. Tell it of tasks by `begin_task`, also in a plain loop.

    Args:
        model: the network.
        strength: what one earlier task counts; 0 leaves the loss as it is.
        temperature: by which the logits of both are divided.
        weighting: which of the sums above.
        over: the outputs of the student's softmax: "old": those of the teacher's; "current": those that compete now,
            where the teacher says 0 for what came new (van de Ven et al., class-incremental).
    """

    @checked
    def __init__(
        self,
        model: nn.Module,
        strength: NonNegative = 1.0,
        temperature: Positive = 2.0,
        weighting: Weighting = "sum",
        over: Over = "old",
    ) -> None:
        super().__init__(model, strength)
        check_choice("weighting", weighting, Weighting)
        check_choice("over", over, Over)
        self.temperature, self.weighting, self.over = temperature, weighting, over
        self._teacher: nn.Module | None = None
        self._heads: list[range | None] = []
        self._old: list[range | None] = []
        """By task: the outputs that competed when the teacher was made."""

    def begin_task(self, number: int, heads: Heads) -> None:
        """Take note of the outputs that compete now."""
        self._heads = list(heads[:number])

    def loss(self, batch: Batch, logits: Tensor, loss: Tensor) -> Tensor:
        """The loss with the distillation of earlier tasks."""
        if self._teacher is None or self.strength == 0:
            return loss
        with torch.no_grad():
            taught = self._teacher.to(next(self.model.parameters()))(batch.inputs)
        pairs = Counter((old, now) for old, now in zip(self._old, self._heads, strict=False) if old and now)
        n = pairs.total()
        mean = sum(count / n * self._divergence(taught, logits, *pair) for pair, count in pairs.items())
        if self.weighting == "mean":
            return loss + self.strength * mean
        whole = loss + self.strength * n * mean
        return whole if self.weighting == "sum" else whole / (1 + self.strength * n)

    def _divergence(self, taught: Tensor, logits: Tensor, old: range, now: range) -> Tensor:
        """KL divergence of the student from the teacher, mean over the batch; see `over`."""
        over = old if self.over == "old" else now
        q = (taught[:, old.start : old.stop] / self.temperature).log_softmax(-1)
        p = (logits[:, over.start : over.stop] / self.temperature).log_softmax(-1)
        p = p[:, old.start - over.start : old.stop - over.start]
        return (q.exp() * (q - p)).sum(-1).mean()

    def consolidate(self, batches: Iterable[Sequence[Any]], classes: Sequence[int] | None = None) -> None:  # noqa: ARG002
        """The network now becomes the teacher."""
        self._check_begun(len(self._heads))
        self._old = list(self._heads)
        self._teacher = teacher(self.model)

    def memory(self) -> dict[str, Any]:
        """The teacher's weights and buffers, and the outputs that competed for each task then and now."""
        return {
            "teacher": None if self._teacher is None else dict(self._teacher.state_dict()),
            "old": ends(self._old),
            "heads": ends(self._heads),
        }

    def recall(self, memory: dict[str, Any]) -> None:
        """Undo `memory`."""
        self._old, self._heads = ranges(memory["old"]), ranges(memory["heads"])
        self._teacher = None if memory["teacher"] is None else teacher(self.model, memory["teacher"])
