"""The upper bound after every task."""

from typing import ClassVar, Literal

from torch import nn

from cl_fisher.bounds import NonNegative, checked
from cl_fisher.strategy.strategy import Strategy


class Cumulative(Strategy):
    """At each task train on all tasks so far. `strength` is accepted and ignored."""

    trains_on: ClassVar[Literal["task", "seen", "all"]] = "seen"

    @checked
    def __init__(self, model: nn.Module, strength: NonNegative = 0.0) -> None:
        super().__init__(model, strength)
