"""How cheap an estimate could be: floating point operations counted from the layers' shapes.

Per example, with S rows of K inputs and O outputs in layer l: F_l = 2 S K O forward, F their sum, F_1 the first layer's
(zero if something trainable comes before it), A what attention multiplies beside the layers. A plain pass takes
3 F - F_1 + 3 A. V backward chains to the layers' outputs, without weight gradients, take F + A + V (F - F_1 + 2 A).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

COLUMNS = {"empirical": 1, "labels": 1, "signs": 1, "stratified": 3, "exact": 9, "kfac": 1, "ekfac": 1}


@dataclass(frozen=True)
class Layer:
    """One call of a layer that multiplies by a matrix, for one example."""

    rows: int
    inputs: int
    outputs: int

    @property
    def forward(self) -> float:
        return 2.0 * self.rows * self.inputs * self.outputs


@dataclass
class Work:
    """What a forward pass of one example multiplies."""

    layers: list[Layer]
    first: float = 0.0
    attention: float = 0.0

    @property
    def forward(self) -> float:
        return sum(layer.forward for layer in self.layers)

    @property
    def plain(self) -> float:
        return 3 * self.forward - self.first + 3 * self.attention

    def chain(self, columns: int) -> float:
        return self.forward + self.attention + columns * (self.forward - self.first + 2 * self.attention)


def count(model: nn.Module, inputs: Tensor) -> Work:
    """Of a forward pass over `inputs`, divided by their number."""
    work, seen = Work([]), []

    def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        seen.append(module)
        if isinstance(module, nn.MultiheadAttention):
            length, width = args[0].shape[1:]
            work.layers += [Layer(length, width, 3 * width), Layer(length, width, width)]
            work.attention += 4.0 * length * length * width
        elif isinstance(module, nn.Linear):
            work.layers.append(Layer(output[0].numel() // output.shape[-1], module.in_features, module.out_features))
        elif isinstance(module, nn.Conv2d):
            per_row = module.weight[0].numel()
            work.layers.append(Layer(output[0, 0].numel(), per_row, module.out_channels))
        if len(seen) == 1 and len(work.layers) == 1:
            work.first = work.layers[0].forward

    kinds = (nn.Linear, nn.Conv2d, nn.MultiheadAttention, nn.Embedding)
    handles = [m.register_forward_hook(hook) for m in model.modules() if isinstance(m, kinds)]
    model(inputs[:2])
    for handle in handles:
        handle.remove()
    return work


def floor(work: Work, what: str, examples: int) -> float:
    """Multiples of a plain pass."""
    columns = COLUMNS[what]
    total = work.chain(columns)
    if what in ("kfac", "ekfac"):
        total += sum(_factors(layer, columns) for layer in work.layers)
    if what == "ekfac":
        total += work.chain(columns)
        total += sum(_rotations(layer, columns) + _squares(layer, columns) for layer in work.layers)
        total += sum(10.0 * (layer.inputs**3 + layer.outputs**3) for layer in work.layers) / examples
    if what not in ("kfac", "ekfac"):
        total += sum(_squares(layer, columns) for layer in work.layers)
    return total / work.plain


def _squares(layer: Layer, columns: int) -> float:
    """Per-example gradients squared: column by column, or over pairs of positions, whichever is less."""
    return min(columns, (layer.rows + 1) / 2) * layer.forward


def _factors(layer: Layer, columns: int) -> float:
    return 2.0 * layer.rows * (layer.inputs**2 + columns * layer.outputs**2)


def _rotations(layer: Layer, columns: int) -> float:
    """Into the eigenbasis: inputs and gradients, or per-example weight gradients."""
    return min(_factors(layer, columns), 2.0 * columns * layer.inputs * layer.outputs * (layer.inputs + layer.outputs))


def attention_without_fast_path() -> None:
    """In evaluation mode torch would replace encoder layers by one fused call, which no hook sees."""
    torch.backends.mha.set_fastpath_enabled(False)
