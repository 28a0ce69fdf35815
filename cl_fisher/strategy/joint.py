"""The upper bound for the end of the sequence."""

from typing import ClassVar, Literal

from torch import nn

from cl_fisher.bounds import NonNegative, checked
from cl_fisher.strategy.strategy import Strategy


class Joint(Strategy):
    """Train once, on all tasks together: one accuracy row, no forgetting. `strength` is accepted and ignored."""

    trains_on: ClassVar[Literal["task", "seen", "all"]] = "all"

    @checked
    def __init__(self, model: nn.Module, strength: NonNegative = 0.0) -> None:
        super().__init__(model, strength)
