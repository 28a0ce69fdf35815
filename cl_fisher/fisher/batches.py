"""The batches of an estimate: checked, cut off, and brought to where the model is."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from cl_fisher.error import InputError


@dataclass(frozen=True)
class Batch:
    """Examples, or a part of a batch of them."""

    inputs: Any
    """A tensor, or containers of tensors and other things."""
    apart: Any
    """Of the same structure: which tensors have a row per example; everything else is every example's."""
    targets: Tensor
    index: Tensor
    """int64 [N]: which example each row is."""
    weights: Tensor | None = None
    """[N]: what each example counts; 1 if None."""

    def __len__(self) -> int:
        return len(self.targets)

    def part(self, which: slice | Tensor) -> "Batch":
        """Some of the examples: a slice, or positions."""
        on_cpu = which.cpu() if isinstance(which, Tensor) else which
        return replace(
            self,
            inputs=tree_map(lambda t, is_apart: t[which] if is_apart else t, self.inputs, self.apart),
            targets=self.targets[which],
            index=self.index[on_cpu],
            weights=None if self.weights is None else self.weights[which],
        )

    def copied_inputs(self) -> Any:
        """The inputs, for a model that may change what it is given in place."""
        return tree_map(lambda t: t.clone() if isinstance(t, Tensor) else t, self.inputs)


def by_length(inputs: Any, n: int) -> Any:
    """Which inputs have `n` rows, one for each example it seems: true or false in the structure of the inputs."""
    return tree_map(lambda t: isinstance(t, Tensor) and t.dim() > 0 and len(t) == n, inputs)


def read(
    batches: Iterable[Sequence[Any]],
    like: Tensor,
    samples: int | None = None,
    first: int = 0,
    step: int = 1,
    apart: Callable[[Any, int], Any] = by_length,
) -> Iterator[Batch]:
    """Batches on the model's device, cut off after `samples` examples; no empty ones.

    Where they carry no index, the example at position i of the stream is number `first + i * step`. `apart` tells which
    inputs have a row per example.
    """
    n = 0
    for batch in batches:
        if n == samples:
            return
        if not isinstance(batch, (tuple, list)) or len(batch) < 2:
            raise InputError(
                f"a batch must be (inputs, targets) or (inputs, targets, index), not {type(batch).__name__}"
            )
        inputs, targets = batch[0], batch[1]
        if not isinstance(targets, Tensor) or targets.dim() == 0 or targets.is_complex():
            kind = f"{targets.dtype} of no dimension" if isinstance(targets, Tensor) else type(targets).__name__
            raise InputError(f"targets must be a tensor with one row per example, not {kind}")
        n_rows = len(targets)
        index = batch[2] if len(batch) > 2 else first + step * torch.arange(n, n + n_rows)
        if not isinstance(index, Tensor) or index.shape != (n_rows,) or index.is_floating_point():
            raise InputError(f"the third entry of a batch is the examples' index: {n_rows} whole numbers are wanted")
        inputs = _to(inputs, like)
        whole = Batch(inputs, apart(inputs, n_rows), targets.to(like.device), index.cpu())
        if samples is not None and samples - n < n_rows:
            whole = whole.part(slice(0, samples - n))
        if len(whole):
            n += len(whole)
            yield whole


def examples_in(batch: Any) -> int:
    """How many examples a batch has that was not read yet; 0 if it is none, which `read` will say."""
    targets = batch[1] if isinstance(batch, (tuple, list)) and len(batch) > 1 else None
    return len(targets) if isinstance(targets, Tensor) and targets.dim() > 0 else 0


def pieces(batch: Batch, size: int) -> Iterator[Batch]:
    """The batch in parts of at most `size` examples."""
    if len(batch) <= size:
        yield batch
        return
    for start in range(0, len(batch), size):
        yield batch.part(slice(start, start + size))


def regrouped(batches: Iterable[Batch], size: int) -> Iterator[Batch]:
    """The same examples in the same order in batches of exactly `size`, the last one of what is left."""
    waiting: list[Batch] = []
    for batch in batches:
        start = 0
        while start < len(batch):
            room = size - sum(map(len, waiting))
            waiting.append(batch.part(slice(start, start + room)))
            start += len(waiting[-1])
            if sum(map(len, waiting)) == size:
                yield joined(waiting)
                waiting = []
    if waiting:
        yield joined(waiting)


def joined(parts: Sequence[Batch]) -> Batch:
    """One batch of several; what all examples share is taken from the first."""
    first = parts[0]
    if len(parts) == 1:
        return first
    try:
        inputs = tree_map(
            lambda is_apart, *leaves: torch.cat(leaves) if is_apart else leaves[0],
            first.apart,
            *(p.inputs for p in parts),
        )
        targets = torch.cat([p.targets for p in parts])
    except (RuntimeError, ValueError, TypeError) as error:
        n = sum(map(len, parts))
        raise InputError(
            f"batches of different shapes cannot be joined to one of {n}: make them of that size"
        ) from error
    weights = None if first.weights is None else torch.cat([p.weights for p in parts if p.weights is not None])
    return Batch(inputs, first.apart, targets, torch.cat([p.index for p in parts]), weights)


def _to(inputs: Any, like: Tensor) -> Any:
    """On the parameters' device, and as precise as they are: a model of 16 bits is estimated in 32."""
    return tree_map(lambda t: _fit(t, like) if isinstance(t, Tensor) else t, inputs)


def _fit(tensor: Tensor, like: Tensor) -> Tensor:
    half = tensor.is_floating_point() and tensor.dtype.itemsize < 4
    return tensor.to(like.device, like.dtype if half else tensor.dtype)
