"""Rotated inputs (Lopez-Paz & Ranzato 2017, sec. 4.1): each task shows them turned by an angle of its own."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from cl_fisher.benchmark.task import Scenario, Task, TaskSequence
from cl_fisher.benchmark.validation import hold_out
from cl_fisher.bounds import Count, Fraction, Index, Positive, checked
from cl_fisher.dataset.examples import DataSet, Examples
from cl_fisher.error import InputError
from cl_fisher.seeding import generator

Spread = Literal["even", "random"]
_PIECE = 4096
"""Images turned at once, so that a whole data set is never held as floats."""


@dataclass(frozen=True)
class Rotation:
    """Turns images or points around their centre, anticlockwise as one looks at them."""

    angle: float
    """Degrees."""
    scale: float = 1.0
    """Raw units of 1; the centre of points is at half of it."""

    def __call__(self, raw: Tensor) -> Tensor:
        """Images [n, channels, height, width] or points [n, 2] to the same shape and type.

        Images are interpolated bilinearly, with zeros beyond their edges, and rounded if they are whole numbers. A
        quarter turn of a square image and a half turn of any are exact. Points may leave [0, 1] x [0, 1].
        """
        if raw.dim() == 2:
            return self._points(raw)
        quarters = self.angle % 360 / 90
        if quarters in (0, 2) or (quarters in (1, 3) and raw.shape[2] == raw.shape[3]):
            return raw.rot90(int(quarters), (2, 3)).contiguous()
        return torch.cat([self._images(some) for some in raw.split(_PIECE)])

    def _images(self, raw: Tensor) -> Tensor:
        exact = raw.dtype if raw.is_floating_point() else torch.float32
        (height, width), (cos, sin) = raw.shape[2:], _cos_sin(self.angle)
        # where each pixel comes from; both axes of an image reach from -1 to 1, whatever its shape
        back = torch.tensor([[cos, -sin * height / width, 0.0], [sin * width / height, cos, 0.0]], dtype=exact)
        layers = raw.to(exact).reshape(1, -1, height, width)  # one grid for all: images become channels
        grid = affine_grid(back.to(raw.device)[None], [1, 1, height, width], align_corners=False)
        turned = grid_sample(layers, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        return (turned if raw.is_floating_point() else turned.round_()).view(raw.shape).to(raw.dtype)

    def _points(self, raw: Tensor) -> Tensor:
        cos, sin = _cos_sin(self.angle)
        turn = torch.tensor([[cos, sin], [-sin, cos]], dtype=raw.dtype, device=raw.device)
        centre = self.scale / 2
        return (raw - centre) @ turn + centre


@checked
def rotated(
    dataset: DataSet,
    scenario: Scenario,
    n_tasks: Count,
    seed: Index,
    validation_fraction: Fraction,
    angles: Spread | Sequence[float] = "even",
    max_angle: Positive = 180.0,
    order_seed: Index | None = None,
) -> TaskSequence:
    """`n_tasks` tasks over the same images (or points of the plane) and classes, each turned by its own angle.

    Args:
        dataset: images, or points [N, 2].
        scenario: what is known at test time.
        n_tasks: length of the sequence.
        seed: of the validation examples, which are the same in every task.
        validation_fraction: of the training examples, held out.
        angles: degrees, anticlockwise: one per task; "even": (t - 1) / n_tasks of `max_angle`, which itself is left
            out (a full turn would be the first task again); or "random": uniform below `max_angle`, task by task, so
            that a longer sequence begins like a shorter one.
        max_angle: degrees.
        order_seed: of random angles; None: `seed`.

    Raises:
        InputError: these inputs cannot be turned, or the angles are not one per task.
    """
    shape = dataset.train.shape
    if len(shape) != 3 and not (shape == (2,) and dataset.train.source.is_floating_point()):
        kind = f"{shape} and type {dataset.train.source.dtype}"
        raise InputError(f"benchmark=rotated turns images or points of the plane (floats), not inputs of shape {kind}")
    degrees = _degrees(angles, n_tasks, max_angle, seed if order_seed is None else order_seed)
    train, validation = hold_out(dataset.train, validation_fraction, seed)
    units = scenario.units([dataset.n_classes] * n_tasks)
    tasks = [
        Task(
            number=number,
            train=_view(train, angle, own.start),
            validation=_view(validation, angle, own.start),
            test=_view(dataset.test, angle, own.start),
            units=own,
        )
        for number, (angle, own) in enumerate(zip(degrees, units, strict=True), start=1)
    ]
    return TaskSequence(tuple(tasks), scenario, n_outputs=units[-1].stop)


def _degrees(angles: str | Sequence[float], n_tasks: int, max_angle: float, seed: int) -> Sequence[float]:
    if angles == "even":
        return [max_angle * i / n_tasks for i in range(n_tasks)]
    if angles == "random":
        draws = [torch.rand((), generator=generator(seed, "angle", t)).item() for t in range(1, n_tasks + 1)]
        return [max_angle * draw for draw in draws]
    if isinstance(angles, str) or not all(type(a) in (int, float) and math.isfinite(a) for a in angles):
        raise InputError(f"benchmark.angles={angles}: {', '.join(get_args(Spread))} or a list of degrees is wanted")
    if len(angles) != n_tasks:
        raise InputError(
            f"benchmark.angles={list(angles)}: it has {len(angles)} entries for n_tasks={n_tasks}; one per task is "
            "wanted"
        )
    return angles


def _view(examples: Examples, angle: float, first_unit: int) -> Examples:
    turn = None if angle % 360 == 0 else Rotation(angle, examples.scale)
    return replace(examples, transform=turn, targets=examples.targets + first_unit)


def _cos_sin(angle: float) -> tuple[float, float]:
    """Exact for quarter turns."""
    quarters = angle % 360 / 90
    if quarters in (0, 1, 2, 3):
        return (1.0, 0.0, -1.0, 0.0)[int(quarters)], (0.0, 1.0, 0.0, -1.0)[int(quarters)]
    return math.cos(math.radians(angle)), math.sin(math.radians(angle))
