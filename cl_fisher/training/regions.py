"""What a network predicts over the plane, where inputs are points of it: to be drawn."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from cl_fisher.benchmark.task import Task, TaskSequence
from cl_fisher.event import Regions
from cl_fisher.fisher.undisturbed import undisturbed
from cl_fisher.strategy.strategy import Strategy

SIDE = 50
"""Places per axis."""
MARGIN = 0.05
"""Beyond the outermost test points, as a fraction of their extent."""
SHOWN = 100
"""Test points of a task that are handed on, at most."""


def regions(
    model: nn.Module, strategy: Strategy, sequence: TaskSequence, after_task: int, seen: int
) -> Iterator[Regions]:
    """The predictions over a regular grid after `seen` tasks; nothing unless inputs are points [N, 2].

    Asked as the task just trained would be or, where each task has a head of its own, as each task seen would be.
    Before any training (`seen` 0): the test points of each task with the right output units, and probability 1.
    """
    if sequence.input_shape != (2,):
        return
    if seen == 0:
        yield from (_truth(task) for task in sequence.tasks)
        return
    places = _grid(torch.cat([_points(task)[0] for task in sequence.tasks]))
    first = 1 if sequence.scenario.name == "task" else seen
    for task in sequence.tasks[first - 1 : seen]:
        active = sequence.active(task, seen)
        assert active is not None  # a task that was trained on has its outputs
        with undisturbed(model), torch.no_grad(), strategy.serving(task.number) as predict:
            scores = predict(places.to(next(model.parameters())))[:, active.start : active.stop]
        probability, unit = scores.float().softmax(-1).max(-1)
        yield _event(after_task, task, places, unit + active.start, probability)


def _truth(task: Task) -> Regions:
    points, targets = _points(task)
    few = torch.linspace(0, len(points) - 1, min(SHOWN, len(points))).round().long()  # they may be sorted by class
    return _event(0, task, points[few], targets[few], torch.ones(len(few)))


def _points(task: Task) -> tuple[Tensor, Tensor]:
    return task.test.inputs(torch.arange(len(task.test))), task.test.targets


def _grid(points: Tensor) -> Tensor:
    """Places [SIDE * SIDE, 2] around these points, x running faster."""
    low, high = points.amin(0), points.amax(0)
    extent = high - low
    thin = extent < 1e-3 * extent.max()  # the points lie on a line parallel to an axis
    around = torch.where(thin, 0.5 * extent.max(), MARGIN * extent)
    low, high = low - around, high + around
    x, y = (torch.linspace(float(low[i]), float(high[i]), SIDE) for i in (0, 1))
    return torch.stack([x.repeat(SIDE), y.repeat_interleave(SIDE)], 1)


def _event(after_task: int, task: Task, places: Tensor, unit: Tensor, probability: Tensor) -> Regions:
    x, y, sure = (tuple(column.tolist()) for column in (places[:, 0], places[:, 1], probability))
    return Regions(after_task, task.number, x, y, tuple(unit.tolist()), sure)
