"""Averaged gradient episodic memory."""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from cl_fisher.bounds import Count, Index, NonNegative, checked
from cl_fisher.strategy.batch import Batch, Heads, ends, masks, nll, ranges
from cl_fisher.strategy.buffer import Buffer, Memory, Replay
from cl_fisher.strategy.strategy import Strategy

OLD_ROWS = ("penalised",)
WHY_ROWS = "projects the gradient as a whole: without the rows of earlier tasks a step may raise the memory's loss"


class AGEM(Strategy):
    """A-GEM (Chaudhry et al. 2019, eq. 11): a step may not, to first order, raise the loss of a batch from memory.

    Where the gradient g has a negative inner product with the memory's gradient r, it becomes g - (g.r / r.r) r.

    The memory's batch is passed through the network in its current mode, on copies of its buffers: batch norm's running
    statistics are those of the task's batches alone. In a composition what comes before, such as a penalty, is
    projected too.

    Args:
        model: the network.
        strength: accepted and ignored.
        memory: see `Buffer`.
        capacity: see `Buffer`.
        per_class: see `Buffer`.
        replay: see `Buffer`.
        replay_batch_size: size of the memory's batch; as large as the task's if None.
        seed: of all draws.
    """

    remembers: ClassVar[bool] = True

    @checked
    def __init__(
        self,
        model: nn.Module,
        strength: NonNegative = 0.0,
        memory: Memory = "class_balanced",
        capacity: Count = 1000,
        per_class: Count | None = None,
        replay: Replay = "earlier",
        replay_batch_size: Count | None = None,
        seed: Index = 0,
    ) -> None:
        super().__init__(model, strength)
        self.buffer = Buffer(memory, capacity, per_class, replay, seed)
        self.replay_batch_size = replay_batch_size
        self._heads: Heads = ()
        self._size = 1

    def begin_task(self, number: int, heads: Heads) -> None:
        """What is in memory is of earlier tasks from now on."""
        self.buffer.begin(number)
        self._heads = heads

    def mix(self, batch: Batch) -> Batch:
        """The batch itself; the memory takes note of it."""
        self._check_begun(self.buffer.phase)
        self.buffer.see(batch)
        self._size = len(batch.targets) if self.replay_batch_size is None else self.replay_batch_size
        return batch

    def add_gradient(self, parameters: Iterable[nn.Parameter] | None = None) -> None:
        """Project `.grad` of the parameters."""
        held = [p for p in (self.model.parameters() if parameters is None else parameters) if p.requires_grad]
        rows = self.buffer.draw(self._size, held[0])
        if rows is None:
            return
        reference = self._gradient(rows, held)
        pairs = [(p, r) for p, r in zip(held, reference, strict=True) if r is not None]
        inner = sum((p.grad * r).sum() for p, r in pairs if p.grad is not None)
        square = torch.stack([r.square().sum() for _, r in pairs]).sum()
        tiny = torch.finfo(square.dtype).tiny
        against = (inner / square.clamp_min(tiny)).clamp(max=0)  # on the device: no waiting for its sign
        for p, r in pairs:
            p.grad = -against * r if p.grad is None else p.grad.sub_(against * r)

    @torch.enable_grad()
    def _gradient(self, rows: dict[str, Tensor], parameters: list[nn.Parameter]) -> tuple[Tensor | None, ...]:
        copies = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        logits = functional_call(self.model, copies, (rows["inputs"],))
        loss = nll(logits, rows["targets"], rows["task"], masks(self._heads, logits.shape[1])).mean()
        return torch.autograd.grad(loss, parameters, allow_unused=True)

    def consolidate(self, batches: Iterable[Sequence[Any]], classes: Sequence[int] | None = None) -> None:  # noqa: ARG002
        """Take examples of the task into a class-balanced memory."""
        self._check_begun(self.buffer.phase)
        self.buffer.take(batches)

    def memory(self) -> dict[str, Any]:
        """The examples, where the draws stand, and which outputs compete."""
        return self.buffer.state() | {"heads": ends(self._heads)}

    def recall(self, memory: dict[str, Any]) -> None:
        """Undo `memory`."""
        self.buffer.restore(memory)
        self._heads = ranges(memory["heads"])
