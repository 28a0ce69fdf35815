"""Independent binary outputs."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cl_fisher.error import InputError
from cl_fisher.fisher.draws import Draws
from cl_fisher.fisher.likelihood import independent
from cl_fisher.fisher.likelihood.likelihood import Likelihood


class Bernoulli(Likelihood):
    """Each output z is the logit of a yes or no of its own: p = sigmoid(z). Targets are 0 or 1, of any number type.

    Targets have the shape of the outputs, [N, *positions, C]; for a single output the last dimension may be missing.
    The Fisher information of an output is p (1 - p); a column for each output.
    """

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The probability of a yes minus the target: p or -(1 - p), neither of them computed as a difference."""
        y = targets.to(outputs)
        return (1 - y) * outputs.sigmoid() - y * (-outputs).sigmoid()

    def sample(self, outputs: Tensor, draws: Draws, samples: int) -> Tensor:
        """Yes where a uniform number is below p; a number for each output."""
        uniform = draws.per_example(samples, *outputs.shape[1:])
        return (uniform < outputs.cpu().double().sigmoid()).to(outputs)

    def likeliest(self, outputs: Tensor) -> Tensor:
        """Yes where the logit is positive."""
        return (outputs > 0).to(outputs)

    def square_root(self, outputs: Tensor) -> Tensor:
        """Columns sqrt(p_j (1 - p_j)) e_j."""
        return independent.columns(_deviation(outputs))

    def n_columns(self, outputs: Tensor) -> int:
        """One per output."""
        return outputs[0].numel()

    def columns(self, outputs: Tensor, which: slice) -> Tensor:
        """Only those that are wanted are made."""
        return independent.columns(_deviation(outputs), which)

    def combine(self, outputs: Tensor, weights: Tensor) -> Tensor:
        """No column is made."""
        return independent.combine(_deviation(outputs), weights)

    def column_norms(self, outputs: Tensor) -> Tensor:
        """sqrt(p (1 - p))."""
        return independent.norms(_deviation(outputs))

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        """Targets of the outputs' shape, or without the last dimension if that is 1, and nothing but 0 and 1."""
        alone = outputs.shape[-1] == 1 and targets.shape == outputs.shape[:-1]
        if targets.shape != outputs.shape and not alone:
            raise InputError(
                f"targets of shape {tuple(targets.shape)} do not fit outputs of shape {tuple(outputs.shape)}: "
                "a bernoulli likelihood wants a 0 or 1 for each output"
            )
        if not bool(((targets == 0) | (targets == 1)).all()):
            raise InputError("targets of a bernoulli likelihood must be 0 or 1")

    def select(self, outputs: Tensor, targets: Tensor, classes: Sequence[int] | None) -> tuple[Tensor, Tensor]:
        """As for any likelihood, with targets of the outputs' shape."""
        self.check(outputs, targets)
        return super().select(outputs, targets.reshape(outputs.shape), classes)


def _deviation(outputs: Tensor) -> Tensor:
    """sqrt(p (1 - p)) = 1 / (2 cosh(z / 2)), without any difference."""
    return 0.5 / torch.cosh(outputs / 2)
