"""What an estimator of the Fisher is: a choice of output cotangents."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

from torch import Tensor

from cl_fisher.fisher.draws import Draws
from cl_fisher.fisher.likelihood.likelihood import Likelihood


class Estimator(ABC):
    """Chooses columns S_n so that F = mean over examples n of J_n^T S_n S_n^T J_n, J_n the Jacobian of the outputs.

    An estimator never sees parameters, and a structure never sees labels: so every pair of the two works.
    """

    batch: int | None = None
    """How many consecutive examples are squared together, after their gradients have been added; None: each alone.

    If set, the stream is to be cut into batches of this size (`batches.regrouped`), and each of them counts as one
    example: the gradients of a column summed over the batch (`batched_empirical.group_gradients`), divided at the end
    by the number of batches.
    """

    @abstractmethod
    def columns(self, likelihood: Likelihood, outputs: Tensor, targets: Tensor, draws: Draws) -> Tensor:
        """Cotangents [V, N, *positions, C] for outputs [N, *positions, C] (active ones only, no graph) and targets.

        `draws` is all the randomness that an estimator may use: it belongs to the examples, not to the batch.
        """

    def parts(
        self, likelihood: Likelihood, outputs: Tensor, targets: Tensor, draws: Draws, size: int
    ) -> Iterator[Tensor]:
        """The same columns, at most `size` at a time."""
        yield from self.columns(likelihood, outputs, targets, draws).split(size)
