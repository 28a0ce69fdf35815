"""What an estimator of the Fisher is: a choice of output cotangents."""

from abc import ABC, abstractmethod

from torch import Tensor

from cl_fisher.fisher.draws import Draws
from cl_fisher.fisher.likelihood import Likelihood


class Estimator(ABC):
    """Chooses columns S_n so that F = mean over examples n of J_n^T S_n S_n^T J_n, J_n the Jacobian of the outputs.

    An estimator never sees parameters, and a structure never sees labels: so every pair of the two works.
    """

    batch: int | None = None
    """If not None: so many examples share one column, their gradients are summed before they are squared."""

    @abstractmethod
    def columns(self, likelihood: Likelihood, outputs: Tensor, targets: Tensor, draws: Draws) -> Tensor:
        """Cotangents [V, N, C] for outputs [N, C] (active classes only, no graph) and targets [N].

        `draws` is all the randomness that an estimator may use: it belongs to the examples, not to the batch.
        """

    def together(self, columns: Tensor) -> Tensor:
        """One cotangent [N, C] of columns [V, N, C] for all examples of a group together, if there is `batch`."""
        raise NotImplementedError(type(self).__name__)
