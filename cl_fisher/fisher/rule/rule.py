"""What a rule for a layer type is."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


class Rule(ABC):
    """Turns a layer's input and the gradients at its output into statements about its parameters' gradients."""

    @abstractmethod
    def covers(self, module: nn.Module, inputs: Tensor) -> bool:
        """Whether this rule is right for this module on such inputs (examples first)."""

    @abstractmethod
    def gradient(self, module: nn.Module, inputs: Tensor, gradient: Tensor) -> dict[str, Tensor]:
        """The gradient summed over examples, per parameter of the module: what autograd would give."""

    @abstractmethod
    def squares(self, module: nn.Module, inputs: Tensor, gradients: list[Tensor]) -> dict[str, Tensor]:
        """Per-example gradients squared, summed over examples and columns, per parameter of the module."""


@dataclass(frozen=True)
class LayerUse:
    """One call of a layer in a forward pass."""

    names: Mapping[str, str]
    """The module's own trainable parameters -> their names in the model."""
    module: nn.Module
    rule: Rule
    inputs: Tensor
    shape: tuple[int, ...]
    """Of its output."""
    edge: Any
    """The gradient edge of its output (not the tensor: a later in-place operation would turn it into another)."""
