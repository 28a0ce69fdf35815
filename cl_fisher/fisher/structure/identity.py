"""The identity matrix in place of the Fisher: all weights count alike (L2 anchoring)."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from cl_fisher.fisher.structure.diagonal import Diagonal
from cl_fisher.fisher.structure.structure import Accumulator, Structure


class IdentityAccumulator(Accumulator):
    """Looks at no data."""

    reads: ClassVar[bool] = False

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        self._ones = {name: torch.ones_like(p).detach() for name, p in parameters.items()}

    def finish(self, n_examples: float, info: Mapping[str, Any]) -> Diagonal:  # noqa: ARG002
        """A diagonal of ones: as such it adds up with others, and has zeros for what grows later."""
        return Diagonal(self._ones, info=info)


class IdentityStructure(Structure):
    """I over all trainable parameters, not scaled: the L2 penalty of Kirkpatrick et al. 2017, fig. 2A."""

    def accumulator(self, model: nn.Module, parameters: Mapping[str, nn.Parameter]) -> IdentityAccumulator:  # noqa: ARG002
        """Ones for every parameter."""
        return IdentityAccumulator(parameters)
