"""What a likelihood of targets given network outputs is: all that an estimator needs to know of them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from cl_fisher.error import InputError
from cl_fisher.fisher.draws import Draws
from cl_fisher.fisher.likelihood.active import active_outputs


class Likelihood(ABC):
    """A distribution over an example's targets, parametrised by the outputs of the network for that example.

    Outputs are [N, *positions, C]: [N, C] for one prediction per example, [N, T, C] for one per place in a sequence.
    The log-likelihood of an example is the sum over its positions. Cotangents are signed as the gradient of the
    NEGATIVE log-likelihood; only their squares and products matter.

    `score`, `sample`, `likeliest` and `square_root` make a likelihood. What else there is follows from these, and may
    be overridden where there is a shorter way.
    """

    @abstractmethod
    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Gradient of -log p(targets | outputs) with respect to the outputs, of their shape."""

    @abstractmethod
    def sample(self, outputs: Tensor, draws: Draws, samples: int) -> Tensor:
        """Targets drawn from p(. | outputs), [samples, N, ...]; `draws.per_example` gives the numbers for it."""

    @abstractmethod
    def likeliest(self, outputs: Tensor) -> Tensor:
        """Targets at the mode of p(. | outputs), [N, ...]."""

    @abstractmethod
    def square_root(self, outputs: Tensor) -> Tensor:
        """Columns S, [V, *outputs.shape], with sum_v S_v S_v^T = the Fisher information of each example's outputs."""

    def n_columns(self, outputs: Tensor) -> int:
        """V, the number of columns of the square root."""
        return len(self.square_root(outputs[:1]))

    def columns(self, outputs: Tensor, which: slice) -> Tensor:
        """Some columns of the square root, `square_root(outputs)[which]`."""
        return self.square_root(outputs)[which]

    def n_fewest(self, outputs: Tensor) -> int:
        """How many columns `fewest` has."""
        return self.n_columns(outputs)

    def fewest(self, outputs: Tensor, which: slice) -> Tensor:
        """Some columns of a square root that has as few columns as one can have: what `Exact` pays for."""
        return self.columns(outputs, which)

    def combine(self, outputs: Tensor, weights: Tensor) -> Tensor:
        """Weighted sums of the columns, sum_v w_kvn S_vn: [K, *outputs.shape] from weights [K, V, N]."""
        return torch.einsum("kvn,vn...->kn...", weights, self.square_root(outputs))

    def column_norms(self, outputs: Tensor) -> Tensor:
        """Euclidean norm of every column for every example, [V, N]."""
        return torch.linalg.vector_norm(self.square_root(outputs).flatten(2), dim=-1)

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        """Raise `InputError` unless these targets can be told by these outputs; here, one real number per output."""
        if targets.shape != outputs.shape or targets.is_complex():
            raise InputError(
                f"targets of shape {tuple(targets.shape)} ({targets.dtype}) do not fit outputs of shape "
                f"{tuple(outputs.shape)}: {type(self).__name__} wants a real number for each output"
            )

    def select(self, outputs: Tensor, targets: Tensor, classes: Sequence[int] | None) -> tuple[Tensor, Tensor]:
        """Checked outputs and targets of the active outputs only, in the order of `classes`; of all if None.

        What the other methods are given has been through here.

        Raises:
            InputError: targets that do not fit, or `classes` that are not distinct outputs.
        """
        self.check(outputs, targets)
        if classes is None:
            return outputs, targets
        active = active_outputs(classes, outputs)
        return outputs[..., active], targets[..., active]
