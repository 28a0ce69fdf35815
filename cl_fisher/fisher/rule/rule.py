"""What a rule for a layer type is."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cl_fisher.fisher.rule.layout import Layout

CHUNK_BYTES = 8 * 2**20
"""Of per-example weight gradients at a time: squaring them is memory-bound, so stay near the cache."""


class Rule(ABC):
    """Turns a layer's input and the gradients at its output into statements about its parameters' gradients.

    Inputs and gradients have the examples in their first dimension. Results have the module's own parameter names,
    frozen ones included: whoever asks knows which are wanted.
    """

    @abstractmethod
    def covers(self, module: nn.Module, inputs: Tensor) -> bool:
        """Whether this rule is right for this module on such inputs."""

    @abstractmethod
    def per_example(self, module: nn.Module, inputs: Tensor, gradient: Tensor) -> dict[str, Tensor]:
        """Each example's own gradient, [N, *shape] per parameter."""

    def gradient(self, module: nn.Module, inputs: Tensor, gradient: Tensor) -> dict[str, Tensor]:
        """The gradient summed over examples, per parameter: what autograd would give."""
        return {name: g.sum(0) for name, g in self.per_example(module, inputs, gradient).items()}

    def squares(self, module: nn.Module, inputs: Tensor, gradients: list[Tensor]) -> dict[str, Tensor]:
        """Per-example gradients squared, summed over examples and columns, per parameter; one tensor per column."""
        own = list(module.parameters(recurse=False))
        chunk = max(1, CHUNK_BYTES // max(1, sum(p.numel() * p.element_size() for p in own)))
        total: dict[str, Tensor] = {}
        for gradient in gradients:
            for some_inputs, some in zip(inputs.split(chunk), gradient.split(chunk), strict=True):
                for name, g in self.per_example(module, some_inputs, some).items():
                    squared = g.square_().sum(0)
                    total[name] = squared if name not in total else total[name].add_(squared)
        return total

    def is_matrix(self, module: nn.Module) -> bool:  # noqa: ARG002
        """Whether the layer multiplies rows of its input by one matrix, so that it has Kronecker factors."""
        return False

    def rows(self, module: nn.Module, inputs: Tensor) -> Tensor:
        """The rows x that the weight [O, K] = `weight.flatten(1)` meets: [N, S, K], without a 1 for the bias."""
        raise NotImplementedError(type(self).__name__)

    def row_gradients(self, module: nn.Module, gradient: Tensor) -> Tensor:
        """The gradients at W x + b for each of these rows: [N, S, O]."""
        raise NotImplementedError(type(self).__name__)

    def merged(self, tensors: list[Tensor]) -> Tensor | None:  # noqa: ARG002
        """Inputs (or output gradients) of several calls of a layer as those of one call; None if that has no form."""
        return None


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a layer in a forward pass."""

    names: Mapping[str, str]
    """The layer's own trainable parameters -> their names in the model."""
    module: Any
    """The layer: a module, or what stands for one in a functional call."""
    rule: Rule
    inputs: Tensor
    shape: torch.Size
    """Of its output."""
    edge: Any
    """The gradient edge of its output (not the tensor: a later in-place operation would turn it into another)."""
    layout: Layout


@dataclass(frozen=True, eq=False)
class LayerUse:
    """All calls of a layer in a forward pass, as one."""

    names: Mapping[str, str]
    """The layer's own trainable parameters -> their names in the model."""
    module: Any
    rule: Rule
    inputs: Tensor
    """Examples first."""
    calls: tuple[Call, ...]


def stacked(tensors: list[Tensor]) -> Tensor:
    """Vectors [N, K] of several calls as a sequence [N, calls, K]; sequences [N, ..., K] behind each other."""
    return torch.cat([t.flatten(1, -2) if t.dim() > 2 else t[:, None] for t in tensors], 1)
