"""Normalisations, with a scale and a shift for each channel or entry."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from cl_fisher.fisher.rule.rule import Rule

_CHUNK_BYTES = 2**19  # of inputs at a time: their products with every column's gradient should stay in the cache
_BATCH = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_ENTRIES = (nn.LayerNorm, nn.RMSNorm)
_CHANNELS: dict[type[nn.Module], range] = {
    nn.BatchNorm1d: range(2, 4),
    nn.BatchNorm2d: range(4, 5),
    nn.BatchNorm3d: range(5, 6),
    nn.InstanceNorm1d: range(3, 4),
    nn.InstanceNorm2d: range(4, 5),
    nn.InstanceNorm3d: range(5, 6),
    nn.GroupNorm: range(2, 10),
}
"""How many dimensions the inputs of these have, [N, channels, ...]."""


class NormRule(Rule):
    """y = weight * x^ + bias, x^ normalised by each example's own statistics or by fixed ones.

    Inputs are [N, ...] as the module takes them, or several of them for each example.
    """

    def covers(self, module: Any, inputs: Tensor) -> bool:
        """Not batch norm by the statistics of the batch, which mixes examples."""
        if type(module) in _ENTRIES:
            n = len(module.normalized_shape)
            return inputs.dim() > n and inputs.shape[-n:] == module.normalized_shape
        return type(module) in _CHANNELS and _channel(module, inputs) is not None and not _by_batch(module)

    def per_example(self, module: Any, inputs: Tensor, gradient: Tensor) -> dict[str, Tensor]:
        """Gradient times normalised input, summed over positions."""
        sums = _sums(_blocks(module, _normalised(module, inputs)), _blocks(module, gradient))
        return {name: sums[name].unflatten(1, p.shape) for name, p in module.named_parameters(recurse=False)}

    def squares(self, module: Any, inputs: Tensor, gradients: list[Tensor]) -> dict[str, Tensor]:
        """Some examples at a time, so that their normalised inputs serve all columns."""
        own = dict(module.named_parameters(recurse=False))
        total = {name: torch.zeros_like(p.detach()) for name, p in own.items()}
        size = max(1, _CHUNK_BYTES // max(1, inputs[0].numel() * inputs.element_size()))
        for start in range(0, len(inputs), size):
            part = slice(start, start + size)
            x = _blocks(module, _normalised(module, inputs[part]))
            for gradient in gradients:
                sums = _sums(x, _blocks(module, gradient[part]))
                for name in own:
                    total[name] += sums[name].square().sum(0).view_as(total[name])
        return total


def _sums(x: Tensor, g: Tensor) -> dict[str, Tensor]:
    """Per-example gradients [N, entries] from normalised inputs and gradients in blocks."""
    return {"weight": (x * g).sum((1, 3)), "bias": g.sum((1, 3))}


def _blocks(module: Any, tensor: Tensor) -> Tensor:
    """[N, positions, what has parameters of its own, positions]."""
    if type(module) in _ENTRIES:
        return tensor.reshape(len(tensor), -1, math.prod(module.normalized_shape), 1)
    return tensor.reshape(len(tensor), 1 if _channel(module, tensor) == 1 else tensor.shape[1], _n_channels(module), -1)


def _normalised(module: Any, inputs: Tensor) -> Tensor:
    """As the module does it, but without scale and shift."""
    if type(module) is nn.LayerNorm:
        return functional.layer_norm(inputs, module.normalized_shape, eps=module.eps)
    if type(module) is nn.RMSNorm:
        return functional.rms_norm(inputs, module.normalized_shape, eps=module.eps)
    x = inputs if _channel(module, inputs) == 1 else inputs.flatten(0, 1)
    if type(module) is nn.GroupNorm:
        x = functional.group_norm(x, module.num_groups, eps=module.eps)
    elif module.track_running_stats and not module.training:
        x = functional.batch_norm(x, module.running_mean, module.running_var, eps=module.eps)
    else:
        x = functional.instance_norm(x, eps=module.eps)
    return x.view_as(inputs)


def _by_batch(module: Any) -> bool:
    return isinstance(module, _BATCH) and (module.training or module.running_mean is None)


def _n_channels(module: Any) -> int:
    return module.num_channels if type(module) is nn.GroupNorm else module.num_features


def _channel(module: Any, tensor: Tensor) -> int | None:
    """Which dimension the channels are: 1, or 2 behind several inputs for each example; None if neither can be."""
    for channel in (1, 2):
        if tensor.dim() - channel + 1 in _CHANNELS[type(module)] and tensor.shape[channel] == _n_channels(module):
            return channel
    return None
