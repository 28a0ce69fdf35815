"""A sequence of different data sets, such as handwritten digits and then pieces of clothing: each is a task."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from cl_fisher.benchmark.rule import check_sequence
from cl_fisher.benchmark.task import Scenario, Task, TaskSequence
from cl_fisher.benchmark.validation import hold_out
from cl_fisher.bounds import Count, Fraction, Index, checked
from cl_fisher.dataset.examples import DataSet, Examples
from cl_fisher.error import InputError

Fit = Literal["pad", "resize"]
_PIECE = 4096
"""Images resized at once, so that a whole data set is never held as floats."""


@checked
def sequence(
    datasets: Mapping[str, DataSet],
    scenario: Scenario,
    n_tasks: Count,
    seed: Index,
    validation_fraction: Fraction,
    fit: Fit = "pad",
) -> TaskSequence:
    """One task per data set, in their order; the first `n_tasks` of them.

    Images are brought to one form, that of the largest: grey ones are repeated in every channel, smaller ones get a
    margin of zeros on all sides (fit="pad") or are enlarged bilinearly, each axis by itself (fit="resize"). Pixels lie
    in [0, 1] whatever a data set's own scale.

    Raises:
        InputError: more tasks than data sets, shapes that have no common form, or scenario=domain with different
            numbers of classes.
    """
    check_sequence(n_tasks, {name: data.n_classes for name, data in datasets.items()}, scenario.name)
    used = dict(islice(datasets.items(), n_tasks))
    shape = _common({name: data.train.shape for name, data in used.items()})
    units = scenario.units([data.n_classes for data in used.values()])
    tasks = []
    for number, (data, own) in enumerate(zip(used.values(), units, strict=True), start=1):
        train, validation = hold_out(data.train, validation_fraction, seed)
        source = _formed(data.train.source, shape, fit)
        test = source if data.test.source is data.train.source else _formed(data.test.source, shape, fit)
        task = Task(
            number=number,
            train=_view(train, source, own.start),
            validation=_view(validation, source, own.start),
            test=_view(data.test, test, own.start),
            units=own,
        )
        tasks.append(task)
    return TaskSequence(tuple(tasks), scenario, n_outputs=units[-1].stop)


def _common(shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    """The shape that inputs of all these shapes are brought to."""
    kinds = set(shapes.values())
    channels = {shape[0] for shape in kinds}
    if len(kinds) > 1 and ({len(shape) for shape in kinds} != {3} or len(channels - {1}) > 1):
        named = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise InputError(f"benchmark=sequence finds no common form of inputs with these shapes: {named}")
    return tuple(map(max, zip(*kinds, strict=True)))


def _formed(source: Tensor, shape: tuple[int, ...], fit: Fit) -> Tensor:
    """Raw inputs [n, ...] in this shape and their own type."""
    if tuple(source.shape[2:]) != shape[1:]:
        source = _padded(source, shape[1:]) if fit == "pad" else _resized(source, shape[1:])
    return source.expand(-1, *shape)


def _padded(source: Tensor, size: tuple[int, ...]) -> Tensor:
    (above, below), (left, right) = ((free // 2, free - free // 2) for free in _missing(source, size))
    return pad(source, (left, right, above, below))


def _missing(source: Tensor, size: tuple[int, ...]) -> list[int]:
    return [wanted - there for wanted, there in zip(size, source.shape[2:], strict=True)]


def _resized(source: Tensor, size: tuple[int, ...]) -> Tensor:
    whole = not source.is_floating_point()
    pieces = []
    for some in source.split(_PIECE):
        larger = interpolate(some.float() if whole else some, size, mode="bilinear", align_corners=False)
        pieces.append((larger.round_() if whole else larger).to(source.dtype))
    return torch.cat(pieces)


def _view(examples: Examples, source: Tensor, first_unit: int) -> Examples:
    return replace(examples, source=source, targets=examples.targets + first_unit)
