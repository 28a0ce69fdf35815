"""The empirical Fisher: squared gradients at the data's own labels."""

from torch import Tensor

from cl_fisher.fisher.draws import Draws
from cl_fisher.fisher.estimator.estimator import Estimator
from cl_fisher.fisher.likelihood.likelihood import Likelihood


class Empirical(Estimator):
    """mean_n s_n s_n^T, s_n the score at the label of the data (Kunstner et al. 2019, eq. 3).

    It is not an estimate of the Fisher: it vanishes faster as the training error goes to zero. One backward chain.
    """

    def columns(self, likelihood: Likelihood, outputs: Tensor, targets: Tensor, draws: Draws) -> Tensor:  # noqa: ARG002
        """The score at the targets."""
        return likelihood.score(outputs, targets)[None]
