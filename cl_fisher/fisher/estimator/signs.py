"""The Fisher by random-sign probes."""

import math

import torch
from torch import Tensor

from cl_fisher.bounds import Count, checked
from cl_fisher.fisher.draws import Draws
from cl_fisher.fisher.estimator.estimator import Estimator
from cl_fisher.fisher.likelihood import Likelihood


class Signs(Estimator):
    """`samples` sums of all columns of the square root with random signs: curvature propagation (Martens et al. 2012).

    Unbiased, with about half the error of drawn labels at the same cost. One backward chain per probe.
    """

    @checked
    def __init__(self, samples: Count = 1) -> None:
        self.samples = samples

    def columns(self, likelihood: Likelihood, outputs: Tensor, targets: Tensor, draws: Draws) -> Tensor:  # noqa: ARG002
        """sum_v +-S_v over sqrt(samples)."""
        root = likelihood.square_root(outputs)
        signs = draws.signs(self.samples, len(root)).to(root)
        return torch.einsum("kvn,vnc->knc", signs, root) / math.sqrt(self.samples)
