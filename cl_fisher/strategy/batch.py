"""What a training step is about: examples, which task each comes from, and which outputs compete for it."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

Heads = Sequence[range | None]
"""By task (the first is task 1): the outputs that compete for its examples; None where no output stands for them."""


def ends(heads: Heads) -> list[list[int] | None]:
    """First output and the one behind the last, by task: for a state that is stored."""
    return [None if head is None else [head.start, head.stop] for head in heads]


def ranges(ends: Sequence[Sequence[int] | None]) -> list[range | None]:
    """Undo `ends`."""
    return [None if pair is None else range(*pair) for pair in ends]


class Batch(NamedTuple):
    """Examples of a training step."""

    inputs: Tensor
    """[B, *shape]."""
    targets: Tensor
    """int64 [B]: output units."""
    position: Tensor
    """int64 [B]: where it lies within the task's training data; -1 for what a strategy has added."""
    task: Tensor
    """int64 [B]: the number, from 1, of the task that each example belongs to."""


def masks(heads: Heads, n_outputs: int) -> Tensor:
    """Boolean [tasks, n_outputs]: whether an output competes for a task's examples. Not to be written to."""
    return _masks(tuple(heads), n_outputs)


@lru_cache(maxsize=8)  # replay asks at every step, and the heads change once a task
def _masks(heads: tuple[range | None, ...], n_outputs: int) -> Tensor:
    units = torch.arange(n_outputs)
    return torch.stack([(units >= h.start) & (units < h.stop) if h else units < 0 for h in heads])


def nll(logits: Tensor, targets: Tensor, task: Tensor, masks: Tensor) -> Tensor:
    """Negative log-likelihood of each example, [B], over the outputs that compete for it."""
    competing = masks.to(logits.device)[task - 1]
    return cross_entropy(logits.masked_fill(~competing, float("-inf")), targets, reduction="none")
