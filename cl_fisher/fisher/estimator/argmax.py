"""Squared gradients at the model's likeliest label."""

from torch import Tensor

from cl_fisher.fisher.draws import Draws
from cl_fisher.fisher.estimator.estimator import Estimator
from cl_fisher.fisher.likelihood.likelihood import Likelihood


class Argmax(Estimator):
    """mean_n s_n s_n^T, s_n the score at the likeliest label. Not the Fisher: its least surprising part. One chain."""

    def columns(self, likelihood: Likelihood, outputs: Tensor, targets: Tensor, draws: Draws) -> Tensor:  # noqa: ARG002
        """The score at the likeliest label."""
        return likelihood.score(outputs, likelihood.likeliest(outputs))[None]
