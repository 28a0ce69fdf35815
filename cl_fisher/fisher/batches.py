"""The batches of an estimate: checked, cut off, and brought to where the model is."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_map, tree_unflatten

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
        if not isinstance(targets, Tensor) or targets.dim() == 0:
            kind = "a single number" if isinstance(targets, Tensor) else type(targets).__name__
            raise InputError(f"targets must be a tensor with the examples in its first dimension, not {kind}")
        inputs, targets = _to((inputs, targets), like)
        index = batch[2] if len(batch) > 2 else torch.arange(n, n + len(targets))
        if samples is not None:
            inputs, targets, index = (_first(t, samples - n) for t in (inputs, targets, index))
        if len(targets):
            n += len(targets)
            yield inputs, targets, index


def regrouped(
    batches: Iterable[tuple[Any, Tensor, Tensor]], size: int
) -> Iterator[tuple[Any, Tensor, Tensor]]:
    """The same examples in the same order, `size` at a time; the last batch is what is left.

    Tensors with as many entries in their first dimension as a batch has examples are cut up and put together;
    everything else among the inputs is taken from the first of the batches that come together.

    Raises:
        InputError: parts of two batches belong together and cannot be, for example sequences of different lengths.
    """
    held: list[_Piece] = []
    for batch in batches:
        rest = _piece(batch)
        while rest.n:
            wanted = size - sum(piece.n for piece in held)
            held.append(rest.cut(slice(wanted)))
            rest = rest.cut(slice(wanted, None))
            if sum(piece.n for piece in held) == size:
                yield _joined(held, size)
                held = []
    if held:
        yield _joined(held, size)


@dataclass(frozen=True)
class _Piece:
    """Some of the examples of a batch; which leaves have an entry per example was told from the whole of it."""

    leaves: list[Any]
    per_example: list[bool]
    form: TreeSpec
    n: int

    def cut(self, which: slice) -> "_Piece":
        leaves = [leaf[which] if mine else leaf for leaf, mine in zip(self.leaves, self.per_example, strict=True)]
        return _Piece(leaves, self.per_example, self.form, len(range(self.n)[which]))


def _piece(batch: tuple[Any, Tensor, Tensor]) -> _Piece:
    leaves, form = tree_flatten(tuple(batch))
    n = len(batch[1])
    return _Piece(leaves, [isinstance(t, Tensor) and t.dim() > 0 and len(t) == n for t in leaves], form, n)


def _joined(pieces: list[_Piece], size: int) -> tuple[Any, Tensor, Tensor]:
    first = pieces[0]
    if len(pieces) == 1:
        return tree_unflatten(first.leaves, first.form)
    try:
        leaves = [
            torch.cat([piece.leaves[i] for piece in pieces]) if mine else first.leaves[i]
            for i, mine in enumerate(first.per_example)
        ]
    except (RuntimeError, IndexError, TypeError) as error:
        raise InputError(
            f"batches cannot be joined into batches of {size} examples, since their shapes differ: make them of this "
            "size"
        ) from error
    return tree_unflatten(leaves, first.form)


def _to(inputs: Any, like: Tensor) -> Any:
    """On the parameters' device, and as precise as they are: a model of 16 bits is estimated in 32."""
    return tree_map(lambda t: _fit(t, like) if isinstance(t, Tensor) else t, inputs)


def _fit(tensor: Tensor, like: Tensor) -> Tensor:
    half = tensor.is_floating_point() and tensor.dtype.itemsize < 4
    return tensor.to(like.device, like.dtype if half else tensor.dtype)


def _first(inputs: Any, n: int) -> Any:
    return tree_map(lambda t: t[:n] if isinstance(t, Tensor) else t, inputs)
