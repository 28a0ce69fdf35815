"""Which layer of a network makes its outputs."""

from torch import nn


def output_layer(model: nn.Module, n_outputs: int) -> nn.Linear | None:
    """The last linear layer with a row for each output; None if there is no such layer."""
    layers = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == n_outputs]
    return layers[-1] if layers else None
