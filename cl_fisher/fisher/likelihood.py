"""Likelihoods of targets given network outputs: what an estimator needs to know of them."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class Likelihood(ABC):
    """A distribution over targets, parametrised by the outputs of the network, example by example.

    Cotangents are signed as the gradient of the NEGATIVE log-likelihood; only their squares and products matter.
    """

    @abstractmethod
    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Gradient of -log p(target | output) with respect to the outputs: [N, C] from [N, C] and [N]."""

    @abstractmethod
    def sample(self, outputs: Tensor, uniform: Tensor) -> Tensor:
        """Targets drawn from p(. | output): [K, N] from outputs [N, C] and uniform numbers [K, N]."""

    @abstractmethod
    def likeliest(self, outputs: Tensor) -> Tensor:
        """The mode of p(. | output), [N]."""

    @abstractmethod
    def square_root(self, outputs: Tensor) -> Tensor:
        """Columns S, [V, N, C], with sum_v S_v S_v^T = the Fisher information of the outputs, per example."""


class Categorical(Likelihood):
    """Softmax over the outputs; targets are class indices."""

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Softmax minus one-hot; the entry of the target is computed as minus the sum of the others.

        p_y - 1 in float32 is exactly zero for a confident network, the sum of the other probabilities is not.
        """
        p = outputs.softmax(-1)
        others = p.scatter(-1, targets[:, None], 0.0)
        return others.scatter(-1, targets[:, None], -others.sum(-1, keepdim=True))

    def sample(self, outputs: Tensor, uniform: Tensor) -> Tensor:
        """By inversion of the cumulative probabilities, in float64."""
        cumulative = outputs.double().softmax(-1).cumsum(-1)
        return torch.searchsorted(cumulative, uniform.T.contiguous(), right=True).T.clamp_(max=outputs.shape[-1] - 1)

    def likeliest(self, outputs: Tensor) -> Tensor:
        """The class of the largest logit."""
        return outputs.argmax(-1)

    def square_root(self, outputs: Tensor) -> Tensor:
        """Columns sqrt(p_j) (p - e_j), j = 1..C; for two classes the one column sqrt(p_1 p_2) (1, -1).

        Their products sum to diag(p) - p p^T, the Hessian of the softmax loss.
        """
        log_p = outputs.log_softmax(-1)
        if outputs.shape[-1] == 2:
            column = (0.5 * log_p.sum(-1)).exp()
            return torch.stack([column, -column], -1)[None]
        classes = torch.arange(outputs.shape[-1], device=outputs.device)
        scores = torch.stack([self.score(outputs, c.expand(len(outputs))) for c in classes])
        return scores * (0.5 * log_p).exp().T[:, :, None]


LIKELIHOODS: dict[str, type[Likelihood]] = {"categorical": Categorical}
