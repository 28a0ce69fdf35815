"""The batches of an estimate: checked, cut off, and brought to where the model is."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from cl_fisher.error import InputError


def limited(
    batches: Iterable[Sequence[Any]], samples: int | None, like: Tensor
) -> Iterator[tuple[Any, Tensor, Tensor]]:
    """Batches with the examples' indices, on the model's device, cut off after `samples` examples; no empty ones."""
    n = 0
    for batch in batches:
        if n == samples:
            return
        if not isinstance(batch, (tuple, list)) or len(batch) < 2:
            raise InputError(
                f"a batch must be (inputs, targets) or (inputs, targets, index), not {type(batch).__name__}"
            )
        inputs, targets = batch[0], batch[1]
        if not isinstance(targets, Tensor) or targets.is_floating_point() or targets.is_complex():
            kind = targets.dtype if isinstance(targets, Tensor) else type(targets).__name__
            raise InputError(f"targets must be a tensor of class indices, not {kind}")
        inputs, targets = _to(inputs, like), targets.to(like.device, torch.int64)
        index = batch[2] if len(batch) > 2 else torch.arange(n, n + len(targets))
        if samples is not None:
            inputs, targets, index = (_first(t, samples - n) for t in (inputs, targets, index))
        if len(targets):
            n += len(targets)
            yield inputs, targets, index


def _to(inputs: Any, like: Tensor) -> Any:
    """On the parameters' device, and as precise as they are: a model of 16 bits is estimated in 32."""
    return tree_map(lambda t: _fit(t, like) if isinstance(t, Tensor) else t, inputs)


def _fit(tensor: Tensor, like: Tensor) -> Tensor:
    half = tensor.is_floating_point() and tensor.dtype.itemsize < 4
    return tensor.to(like.device, like.dtype if half else tensor.dtype)


def _first(inputs: Any, n: int) -> Any:
    return tree_map(lambda t: t[:n] if isinstance(t, Tensor) else t, inputs)
