"""Fully connected networks."""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from cl_fisher.bounds import Count, checked


class MLP(nn.Sequential):
    """Linear and ReLU layers on flattened inputs, then a linear output layer (logits).

    Args:
        input_shape: shape of one input.
        n_outputs: output units, of all tasks together.
        hidden: units of each hidden layer; empty for softmax regression.
    """

    @checked
    def __init__(self, input_shape: Sequence[int], n_outputs: Count, hidden: Sequence[Count] = (400, 400)) -> None:
        widths = [math.prod(input_shape), *hidden]
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in zip(widths, hidden, strict=False):
            layers += [nn.Linear(before, after), nn.ReLU()]
        super().__init__(*layers, nn.Linear(widths[-1], n_outputs))

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [N, n_outputs] of inputs [N, *input_shape]."""
        return super().forward(inputs)
