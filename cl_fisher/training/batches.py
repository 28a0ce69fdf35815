"""Batches of a training phase: from tensors in memory where they fit, else by worker processes; the same either way."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cl_fisher.dataset.examples import Examples
from cl_fisher.seeding import generator
from cl_fisher.strategy.batch import Batch

PASS_SIZE = 500
"""Batch size of passes that only read (evaluation, Fisher); no result depends on it."""


@dataclass(frozen=True)
class LoaderSettings:
    """Where batches come from. `memory_gb` is the most that one phase's inputs may take under in_memory="auto"."""

    in_memory: bool | Literal["auto"] = "auto"
    memory_gb: float = 4.0
    workers: int = 2


class BatchOrder:
    """Which examples make up which batch: every example once an epoch, shuffled by seed, phase and epoch.

    Iterating changes nothing (Lightning and DataLoader iterate more often than one would think): the epoch is what
    `set_epoch` says, which Lightning calls on anything that is a loader's `batch_sampler`.
    """

    def __init__(self, n: int, batch_size: int, seed: int, phase: int) -> None:
        self.n, self.batch_size, self.seed, self.phase = n, batch_size, seed, phase
        self.epoch = 0

    def __len__(self) -> int:
        return -(-self.n // self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        order = torch.randperm(self.n, generator=generator(self.seed, "order", self.phase, self.epoch))
        return iter(order.split(self.batch_size))

    def set_epoch(self, epoch: int) -> None:
        """Shuffle as for this epoch, from 0."""
        self.epoch = epoch


class PhaseData(Dataset[Batch]):
    """The examples of one or more tasks, by task number, one behind the other."""

    def __init__(self, tasks: Mapping[int, Examples]) -> None:
        self.parts = list(tasks.values())
        sizes = torch.tensor([len(p) for p in self.parts])
        self.part = torch.arange(len(self.parts)).repeat_interleave(sizes)
        self.first = sizes.cumsum(0) - sizes
        self.task = torch.tensor(list(tasks)).repeat_interleave(sizes)
        self.position = torch.arange(len(self.part)) - self.first[self.part]
        self.targets = torch.cat([p.targets for p in self.parts])

    def __len__(self) -> int:
        return len(self.targets)

    def __getitems__(self, which: Tensor) -> Batch:
        """A batch; DataLoader calls this in a worker, `MemoryBatches` in the process itself."""
        about = (column.index_select(0, which) for column in (self.targets, self.position, self.task))
        return Batch(self.inputs(which), *about)

    def inputs(self, which: Tensor) -> Tensor:
        """Network inputs of the examples at these positions, float32."""
        if len(self.parts) == 1:
            return self.parts[0].inputs(which)
        part = self.part.index_select(0, which)
        inputs = torch.empty(len(which), *self.parts[0].shape)
        for i in part.unique().tolist():
            of_part = part == i
            inputs[of_part] = self.parts[i].inputs(which[of_part] - self.first[i])
        return inputs

    @property
    def bytes(self) -> int:
        """Size of all inputs in their raw type."""
        return sum(p.bytes for p in self.parts)

    def materialised(self) -> "PhaseData":
        """The same data, gathered into one tensor in memory."""
        parts = [p.materialised() for p in self.parts]
        if len({(p.source.dtype, p.scale) for p in parts}) > 1:  # of several data sets: only as network inputs alike
            whole = Examples(self.inputs(torch.arange(len(self))), torch.arange(len(self)), self.targets)
        else:
            source = parts[0].source if len(parts) == 1 else torch.cat([p.source for p in parts])
            whole = replace(parts[0], source=source, rows=torch.arange(len(self)), targets=self.targets)
        result = PhaseData({1: whole})
        result.task, result.position = self.task, self.position
        return result


class MemoryBatches:
    """Batches cut straight from tensors; no per-image Python, no processes."""

    def __init__(self, data: PhaseData, order: BatchOrder) -> None:
        self.data, self.batch_sampler = data.materialised(), order

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[Batch]:
        return map(self.data.__getitems__, self.batch_sampler)


def training_batches(
    tasks: Mapping[int, Examples], batch_size: int, seed: int, phase: int, settings: LoaderSettings
) -> "MemoryBatches | DataLoader[Batch]":
    """An endless supply of epochs of a phase's training data."""
    data = PhaseData(tasks)
    order = BatchOrder(len(data), batch_size, seed, phase)
    fits = data.bytes <= settings.memory_gb * 2**30 if settings.in_memory == "auto" else settings.in_memory
    if fits:
        return MemoryBatches(data, order)
    return DataLoader(
        data,
        batch_sampler=order,  # type: ignore[arg-type] # yields tensors of positions, which __getitems__ takes
        collate_fn=_as_is,  # type: ignore[arg-type] # it is given what __getitems__ returns
        num_workers=settings.workers,
        persistent_workers=settings.workers > 0,
        generator=torch.Generator().manual_seed(seed),  # else workers' seeds would be drawn from the run's own stream
    )


class ReadingBatches:
    """(inputs, targets, position) in batches of PASS_SIZE, in order, as often as they are asked for.

    Where the examples know their task, its number is the fourth entry.

    Args:
        examples: what is read.
        which: positions, if not all.
        dtype: of the inputs, if not float32.
    """

    def __init__(
        self, examples: Examples | PhaseData, which: Tensor | None = None, dtype: torch.dtype = torch.float32
    ) -> None:
        self._examples, self._dtype = examples, dtype
        self._positions = torch.arange(len(examples)) if which is None else which
        self.n_read = 0
        """Examples handed out so far; one that is asked for again counts again."""

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        for some in self._positions.split(PASS_SIZE):
            if len(some):
                self.n_read += len(some)
                task = (self._examples.task[some],) if isinstance(self._examples, PhaseData) else ()
                yield self._examples.inputs(some).to(self._dtype), self._examples.targets[some], some, *task


def _as_is(batch: Batch) -> Batch:
    return batch
