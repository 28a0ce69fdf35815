"""The Fisher by labels drawn from the model."""

import math

import torch
from torch import Tensor

from cl_fisher.bounds import Count, checked
from cl_fisher.fisher.draws import Draws
from cl_fisher.fisher.estimator.estimator import Estimator
from cl_fisher.fisher.likelihood.likelihood import Likelihood


class MonteCarlo(Estimator):
    """Scores of `samples` targets per example, drawn from the model's own distribution (Martens 2014, sec. 5).

    Unbiased, and the noisiest of the unbiased estimators: on a confident network almost every draw is the likeliest
    label, with a tiny score, and rarely another, with a huge one. One backward chain per label.
    """

    @checked
    def __init__(self, samples: Count = 1) -> None:
        self.samples = samples

    def columns(self, likelihood: Likelihood, outputs: Tensor, targets: Tensor, draws: Draws) -> Tensor:  # noqa: ARG002
        """Score of each drawn label over sqrt(samples)."""
        labels = likelihood.sample(outputs, draws, self.samples)
        return torch.stack([likelihood.score(outputs, y) for y in labels]) / math.sqrt(self.samples)
