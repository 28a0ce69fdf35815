"""Images and labels as tensors, in the form that batches are cut from."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cl_fisher.error import InputError


@dataclass(frozen=True)
class Examples:
    """N examples: rows of a source that other tasks may share, labels, and what happens to the images on the way.

    `source` is kept in its raw type (uint8 for images) so that ten tasks over one data set hold it once.
    """

    source: Tensor
    """Raw inputs [M, channels, height, width], or vectors [M, D]; never written to."""
    rows: Tensor
    """int64 [N]: which rows of `source`."""
    targets: Tensor
    """int64 [N]: the output unit that is right for each example."""
    scale: float = 1.0
    """What raw values are divided by, so that pixels lie in [0, 1]."""
    transform: Callable[[Tensor], Tensor] | None = None
    """Acts on a raw batch [n, *shape] and keeps its type and shape; example by example."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return tuple(self.source.shape[1:])

    def raw(self, which: Tensor) -> Tensor:
        """Transformed inputs in raw units, [n, *shape]; `which` is int64 [n], positions from 0 to N-1."""
        inputs = self.source.index_select(0, self.rows.index_select(0, which))  # ten times as fast as []
        return inputs if self.transform is None else self.transform(inputs)

    def inputs(self, which: Tensor) -> Tensor:
        """Network inputs, float32 [n, *shape]; images in [0, 1]."""
        return self.raw(which).to(torch.float32).div_(self.scale)

    def subset(self, which: Tensor) -> "Examples":
        """The examples at these positions."""
        return replace(self, rows=self.rows[which], targets=self.targets[which])

    def materialised(self) -> "Examples":
        """The same examples with rows gathered and transform applied, once and for all."""
        everything = torch.arange(len(self))
        return replace(self, source=self.raw(everything), rows=everything, transform=None)

    @property
    def bytes(self) -> int:
        """Size of the materialised inputs."""
        return len(self) * self.source[:1].numel() * self.source.element_size()


@dataclass(frozen=True)
class DataSet:
    """A training and a test set of images or vectors with labels 0 to n_classes-1 as targets, and no transform yet."""

    train: Examples
    test: Examples
    n_classes: int
    classes: tuple[str, ...] = ()
    """What the user calls each label, in the order of labels; empty where nothing is known."""

    def __post_init__(self) -> None:
        """Raise `InputError` for what no task could be made of."""
        for name, part in (("training", self.train), ("test", self.test)):
            targets = part.targets
            if not len(part) or len(targets) != len(part):
                raise InputError(f"the data set's {name} part has {len(part)} examples and {len(targets)} targets")
            if targets.dtype != torch.int64 or targets.dim() != 1:
                found = f"{str(targets.dtype).removeprefix('torch.')} {list(targets.shape)}"
                raise InputError(f"the data set's {name} targets are {found}: int64 [N] is wanted, a label each")
            low, high = int(targets.min()), int(targets.max())
            if low < 0 or high >= self.n_classes:
                raise InputError(
                    f"the data set's {name} targets go from {low} to {high}: with n_classes={self.n_classes} they must "
                    f"be labels from 0 to {self.n_classes - 1}"
                )
        if self.train.shape != self.test.shape:
            shapes = f"{list(self.train.shape)} and {list(self.test.shape)}"
            raise InputError(f"the data set's training and test inputs differ in shape: {shapes}")
