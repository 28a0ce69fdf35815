"""Real targets: regression."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cl_fisher.bounds import Positive, checked
from cl_fisher.fisher.draws import Draws
from cl_fisher.fisher.likelihood import independent
from cl_fisher.fisher.likelihood.likelihood import Likelihood

_SMALLEST = 2.0**-54  # half a step of the uniform numbers, which begin at 0, where the normal has no quantile


class Gaussian(Likelihood):
    """Targets are normal about the outputs, independent, with one known variance; of the outputs' shape.

    For a single output the targets' last dimension may be missing.

    -log p = |outputs - targets|^2 / (2 variance) + constant: half of the squared error, summed over outputs, is
    variance 1. The Fisher information of the outputs is I / variance, whatever the targets; a column for each output.
    The score at the likeliest target is zero, so an `Argmax` estimate is too.

    Args:
        variance: of a target about its output, in squared units of the targets.
    """

    @checked
    def __init__(self, variance: Positive = 1.0) -> None:
        self.variance = variance

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(output - target) / variance."""
        return ((outputs - targets) / self.variance).to(outputs)

    def sample(self, outputs: Tensor, draws: Draws, samples: int) -> Tensor:
        """By inversion of the cumulative normal distribution, in float64; a number for each output."""
        uniform = draws.per_example(samples, *outputs.shape[1:]).clamp_(min=_SMALLEST)
        return (outputs.cpu().double() + self.variance**0.5 * torch.special.ndtri(uniform)).to(outputs)

    def likeliest(self, outputs: Tensor) -> Tensor:
        """The outputs."""
        return outputs

    def square_root(self, outputs: Tensor) -> Tensor:
        """Columns e_j / sqrt(variance)."""
        return independent.columns(self._root(outputs))

    def n_columns(self, outputs: Tensor) -> int:
        """One per output."""
        return outputs[0].numel()

    def columns(self, outputs: Tensor, which: slice) -> Tensor:
        """Only those that are wanted are made."""
        return independent.columns(self._root(outputs), which)

    def combine(self, outputs: Tensor, weights: Tensor) -> Tensor:
        """No column is made."""
        return independent.combine(self._root(outputs), weights)

    def column_norms(self, outputs: Tensor) -> Tensor:
        """All alike."""
        return independent.norms(self._root(outputs))

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        """Targets of the outputs' shape, or without the last dimension if that is 1."""
        alone = outputs.shape[-1] == 1 and targets.shape == outputs.shape[:-1]
        super().check(outputs, targets[..., None] if alone else targets)

    def select(self, outputs: Tensor, targets: Tensor, classes: Sequence[int] | None) -> tuple[Tensor, Tensor]:
        """As for any likelihood, with targets of the outputs' shape."""
        self.check(outputs, targets)
        return super().select(outputs, targets.reshape(outputs.shape), classes)

    def _root(self, outputs: Tensor) -> Tensor:
        return torch.full_like(outputs, self.variance**-0.5)
