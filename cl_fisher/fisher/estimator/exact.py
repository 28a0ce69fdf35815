"""The Fisher itself: the expectation over the model's own labels is taken exactly."""

from collections.abc import Iterator

from torch import Tensor

from cl_fisher.fisher.draws import Draws
from cl_fisher.fisher.estimator.estimator import Estimator
from cl_fisher.fisher.likelihood.likelihood import Likelihood


class Exact(Estimator):
    """F = mean_n sum_y p(y|x_n) s_y s_y^T, s_y the score of label y (Kunstner et al. 2019, eq. 4).

    Costs one backward chain per column of the likelihood's square root: per class (one in all for two), times the
    number of positions. The data's labels are not used.
    """

    def columns(self, likelihood: Likelihood, outputs: Tensor, targets: Tensor, draws: Draws) -> Tensor:  # noqa: ARG002
        """A square root of the output Fisher."""
        return likelihood.square_root(outputs)

    def parts(
        self,
        likelihood: Likelihood,
        outputs: Tensor,
        targets: Tensor,  # noqa: ARG002
        draws: Draws,  # noqa: ARG002
        size: int,
    ) -> Iterator[Tensor]:
        """Made a part at a time, so that memory does not grow with the number of classes."""
        for start in range(0, likelihood.n_columns(outputs), size):
            yield likelihood.columns(outputs, slice(start, start + size))
