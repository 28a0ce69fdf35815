"""The square of batch gradients: what much code calls the diagonal Fisher."""

from typing import Literal

from torch import Tensor

from cl_fisher.bounds import Count, checked
from cl_fisher.error import InputError
from cl_fisher.fisher.draws import Draws
from cl_fisher.fisher.estimator.estimator import Estimator
from cl_fisher.fisher.likelihood.likelihood import Likelihood


class BatchedEmpirical(Estimator):
    """Mean over batches of the square of a batch's gradient, at the labels of the data. Not the Fisher.

    What comes of `loss.backward()` and `p.grad ** 2` in a loop over batches, as much EWC code has it; to reproduce its
    figures. Squared after adding, the gradients of a batch cancel: with the mean over the batch the trace falls as
    1 / batch_size from that of `Empirical`, which batch_size=1 is (van de Ven 2025, "On the computation of the Fisher
    information in continual learning", arXiv 2502.11756). For the diagonal only. One backward chain.

    Args:
        batch_size: examples per batch, consecutive ones; the last batch may have fewer and counts as much.
        convention: whether the batch's negative log-likelihood is the "mean" or the "sum" over its examples.
    """

    @checked
    def __init__(self, batch_size: Count = 128, convention: Literal["mean", "sum"] = "mean") -> None:
        if convention not in ("mean", "sum"):
            raise InputError(f"convention={convention} is unknown: it must be mean or sum")
        self.batch = batch_size
        self.convention = convention

    def columns(self, likelihood: Likelihood, outputs: Tensor, targets: Tensor, draws: Draws) -> Tensor:  # noqa: ARG002
        """The score at the targets."""
        return likelihood.score(outputs, targets)[None]

    def together(self, columns: Tensor) -> Tensor:
        """The gradient of the batch's mean or summed negative log-likelihood with respect to its outputs."""
        n_examples = columns.shape[1]
        return columns[0] / n_examples if self.convention == "mean" else columns[0]
