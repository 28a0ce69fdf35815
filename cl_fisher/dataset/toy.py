"""Points in the plane, so that all that happens can be drawn."""

import math
from typing import Literal

import torch
from torch import Tensor

from cl_fisher.bounds import Count, Index, NonNegative, checked
from cl_fisher.dataset.examples import DataSet, Examples
from cl_fisher.error import InputError
from cl_fisher.seeding import generator

RADIUS = 0.4
"""Of the ring of blobs, and the length of a spiral's arm; the centre is (0.5, 0.5)."""
TURN = 0.75
"""How far an arm winds about the centre, in turns."""


@checked
def toy(
    kind: Literal["blobs", "spirals"] = "blobs",
    n_classes: Count = 10,
    per_class: Count = 200,
    noise: NonNegative = 0.04,
    seed: Index = 0,
) -> DataSet:
    """Points float32 [N, 2] in [0, 1], `per_class` of each class for training and as many for testing.

    Args:
        kind: Gaussian blobs on a ring, or intertwined arms of a spiral.
        n_classes: at least two.
        per_class: points of each class in each part.
        noise: standard deviation of both coordinates; points are kept within the square.
        seed: of the points; not the run's, so that all runs see the same.
    """
    if kind not in ("blobs", "spirals") or n_classes < 2:
        raise InputError(f"dataset=toy: kind={kind}, n_classes={n_classes}: blobs or spirals of two or more are wanted")
    targets = torch.arange(n_classes).repeat_interleave(per_class)

    def part(name: str) -> Examples:
        draw = generator(seed, "toy", name)
        points = _means(kind, targets, n_classes, draw) + noise * torch.randn(len(targets), 2, generator=draw)
        return Examples(points.clamp(0, 1), torch.arange(len(targets)), targets)

    return DataSet(part("train"), part("test"), n_classes)


def _means(kind: str, targets: Tensor, n_classes: int, draw: torch.Generator) -> Tensor:
    """Where each point would be without noise, [N, 2]."""
    angle = 2 * math.pi * targets / n_classes
    along = torch.ones(len(targets))
    if kind == "spirals":
        along = 0.1 + 0.9 * torch.rand(len(targets), generator=draw).sqrt()  # evenly over the arm, about
        angle = angle + 2 * math.pi * TURN * along
    return 0.5 + RADIUS * along[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)
