"""The lower bound."""

from torch import nn

from cl_fisher.bounds import NonNegative, checked
from cl_fisher.strategy.strategy import Strategy


class Finetune(Strategy):
    """Train on each task in turn and do nothing against forgetting. `strength` is accepted and ignored."""

    @checked
    def __init__(self, model: nn.Module, strength: NonNegative = 0.0) -> None:
        super().__init__(model, strength)
