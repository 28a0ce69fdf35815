"""The square of batch gradients: what much code calls the diagonal Fisher."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

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
        """The score at the targets of one whole batch, divided by its size for the mean; to be added over it."""
        score = likelihood.score(outputs, targets)[None]
        return score / len(outputs) if self.convention == "mean" else score


def group_gradients(outputs: Tensor, columns: Tensor, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """Gradients of a batch as if it were one example, [V, 1, *shape] per parameter, by plain autograd.

    Args:
        outputs: [N, ..., C] with their graph.
        columns: cotangents [V, N, ..., C]; what they weigh is summed over examples.
        parameters: for `Accumulator.add_gradients`, by name.
    """
    wanted = list(parameters.values())
    rows = [
        torch.autograd.grad(outputs, wanted, column, retain_graph=True, materialize_grads=True) for column in columns
    ]
    return {name: torch.stack([row[i] for row in rows])[:, None] for i, name in enumerate(parameters)}
