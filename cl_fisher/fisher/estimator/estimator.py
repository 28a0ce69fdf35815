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
    """If not None: so many consecutive examples form a group. Their gradients are added before they are squared, and
    the mean is taken over groups."""

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

    def together(self, columns: Tensor) -> Tensor:
        """A group's one cotangent [N, ..., C], from its columns [V, N, ..., C]; called if there is `batch`."""
        raise NotImplementedError(type(self).__name__)
