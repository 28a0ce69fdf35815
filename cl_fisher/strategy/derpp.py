"""Dark experience replay."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from cl_fisher.bounds import Count, Index, NonNegative, checked
from cl_fisher.strategy.batch import Batch, Heads, ends, masks, nll, ranges
from cl_fisher.strategy.buffer import Buffer, Columns, Replay
from cl_fisher.strategy.strategy import Strategy


class DERpp(Strategy):
    """DER++ (Buzzega et al. 2020, eq. 6): a reservoir of examples with the logits that they had when they entered.

    An example competes for a place each time that it comes (algorithm 2), so that logits are of all epochs: those
    of the first one alone would be of a network that has hardly learnt. It may be in memory more than once.

    Adds strength * (alpha * MSE to the stored logits of one replayed batch + beta * cross-entropy of another one).

    The squared error is the mean over the outputs that competed for the example when it entered: elsewhere logits meant
    nothing. With scenario.head=full or scenario=domain these are all outputs, as in the paper. Each replayed batch has
    a forward pass of its own, in the network's current mode, and so batch statistics of its own.

    Args:
        model: the network.
        strength: scales both replay losses; 0 is fine-tuning.
        alpha: weight of the squared error.
        beta: weight of the cross-entropy; 0 is DER.
        capacity: see `Buffer`.
        replay: see `Buffer`; the paper's is "all".
        replay_batch_size: examples in each of the two batches; as many as the batch has if None.
        seed: of all draws.
    """

    @checked
    def __init__(
        self,
        model: nn.Module,
        strength: NonNegative = 1.0,
        alpha: NonNegative = 0.5,
        beta: NonNegative = 0.5,
        capacity: Count = 1000,
        replay: Replay = "earlier",
        replay_batch_size: Count | None = None,
        seed: Index = 0,
    ) -> None:
        super().__init__(model, strength)
        self.alpha, self.beta, self.replay_batch_size = alpha, beta, replay_batch_size
        self.buffer = Buffer("reservoir", capacity, replay=replay, seed=seed)
        self._heads: Heads = ()

    def begin_task(self, number: int, heads: Heads) -> None:
        """What is in memory is of earlier tasks from now on."""
        self.buffer.begin(number)
        self._heads = heads

    def loss(self, batch: Batch, logits: Tensor, loss: Tensor) -> Tensor:
        """Add both replay losses; the memory takes note of the batch afterwards."""
        self._check_begun(self.buffer.phase)
        self._widen(logits.shape[1])
        competing = masks(self._heads, logits.shape[1]).to(logits.device)
        size = len(batch.targets) if self.replay_batch_size is None else self.replay_batch_size
        for weight, term in ((self.alpha, self._distance), (self.beta, self._likelihood)):
            rows = self.buffer.draw(size, batch.inputs) if self.strength * weight > 0 else None
            if rows is not None:
                loss = loss + self.strength * weight * term(rows, competing)
        self.buffer.see(batch, again=True, logits=logits.float(), competed=competing[batch.task - 1])
        return loss

    def _widen(self, n_outputs: int) -> None:
        """What entered before the head grew did not compete for the new outputs."""
        kept = self.buffer.columns
        if kept and (more := n_outputs - kept["logits"].shape[1]) > 0:
            kept |= {name: pad(kept[name], (0, more)) for name in ("logits", "competed")}

    def _distance(self, rows: Columns, competing: Tensor) -> Tensor:  # noqa: ARG002
        away = torch.where(rows["competed"], self.model(rows["inputs"]) - rows["logits"], 0.0)
        return away.square().sum() / rows["competed"].sum()

    def _likelihood(self, rows: Columns, competing: Tensor) -> Tensor:
        return nll(self.model(rows["inputs"]), rows["targets"], rows["task"], competing).mean()

    def memory(self) -> dict[str, Any]:
        """The examples with their logits, where the draws stand, and which outputs compete."""
        return self.buffer.state() | {"heads": ends(self._heads)}

    def recall(self, memory: dict[str, Any]) -> None:
        """Undo `memory`."""
        self.buffer.restore(memory)
        self._heads = ranges(memory["heads"])
