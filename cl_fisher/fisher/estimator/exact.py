"""The Fisher itself: the expectation over the model's own labels is taken exactly."""

from collections.abc import Iterator

from torch import Tensor

from cl_fisher.fisher.draws import Draws
from cl_fisher.fisher.estimator.estimator import Estimator
from cl_fisher.fisher.likelihood.likelihood import Likelihood


class Exact(Estimator):
    """F = mean_n sum_y p(y|x_n) s_y s_y^T, s_y the score of label y (Kunstner et al. 2019, eq. 4).

    Costs one backward chain per column of the likelihood's smallest square root: one less than there are classes, times
    the number of positions. The data's labels are not used.
    """

    def columns(self, likelihood: Likelihood, outputs: Tensor, targets: Tensor, draws: Draws) -> Tensor:  # noqa: ARG002
        """A square root of the output Fisher, with as few columns as it can have."""
        return likelihood.fewest(outputs, slice(None))

    def parts(
        self,
        likelihood: Likelihood,
        outputs: Tensor,
        targets: Tensor,  # noqa: ARG002
        draws: Draws,  # noqa: ARG002
        size: int,
    ) -> Iterator[Tensor]:
        """Made a part at a time, so that memory does not grow with the number of classes."""
        for start in range(0, likelihood.n_fewest(outputs), size):
            yield likelihood.fewest(outputs, slice(start, start + size))
