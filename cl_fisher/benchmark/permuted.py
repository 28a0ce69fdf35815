"""Permuted images (Goodfellow et al. 2013): each task has its own fixed, random order of the pixels."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cl_fisher.benchmark.task import Scenario, Task, TaskSequence
from cl_fisher.benchmark.validation import hold_out
from cl_fisher.bounds import Count, Fraction, Index, checked
from cl_fisher.dataset.examples import DataSet, Examples
from cl_fisher.error import InputError
from cl_fisher.seeding import generator


@dataclass(frozen=True)
class PixelPermutation:
    """Puts pixel `order[i]` at position i, in reading order; the channels of a pixel stay together. So for vectors."""

    order: Tensor
    """int64 [height * width] or [D], a permutation."""

    def __call__(self, raw: Tensor) -> Tensor:
        """[n, channels, height, width] or [n, D] to the same shape and type."""
        places = raw.flatten(2) if raw.dim() > 2 else raw
        return places.index_select(-1, self.order).view(raw.shape)


@checked
def permuted(
    dataset: DataSet,
    scenario: Scenario,
    n_tasks: Count,
    seed: Index,
    validation_fraction: Fraction,
    identity_first: bool = True,
    order_seed: Index | None = None,
) -> TaskSequence:
    """`n_tasks` tasks over the same images and classes; task 1 keeps the original order if `identity_first`.

    The permutation of a task depends on `order_seed` (None: `seed`) and the task's number alone: a longer sequence
    begins like a shorter one. Validation examples are the same images in every task.

    Raises:
        InputError: the inputs are points of the plane.
    """
    if dataset.train.shape == (2,):
        raise InputError(
            "benchmark=permuted has nothing to permute in points of the plane; benchmark=rotated or split takes them"
        )
    drawn_by = seed if order_seed is None else order_seed
    train, validation = hold_out(dataset.train, validation_fraction, seed)
    n_pixels = math.prod(dataset.train.shape[-2:])
    units = scenario.units([dataset.n_classes] * n_tasks)
    tasks = []
    for number, own in enumerate(units, start=1):
        order = torch.randperm(n_pixels, generator=generator(drawn_by, "permutation", number))
        shuffle = None if number == 1 and identity_first else PixelPermutation(order)
        task = Task(
            number=number,
            train=_view(train, shuffle, own.start),
            validation=_view(validation, shuffle, own.start),
            test=_view(dataset.test, shuffle, own.start),
            units=own,
        )
        tasks.append(task)
    return TaskSequence(tuple(tasks), scenario, n_outputs=units[-1].stop)


def _view(examples: Examples, shuffle: PixelPermutation | None, first_unit: int) -> Examples:
    return replace(examples, transform=shuffle, targets=examples.targets + first_unit)
