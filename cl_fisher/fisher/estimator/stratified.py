"""The Fisher by random signs within strata of classes."""

import torch
from torch import Tensor

from cl_fisher.bounds import Count, checked
from cl_fisher.fisher.draws import Draws
from cl_fisher.fisher.estimator.estimator import Estimator
from cl_fisher.fisher.likelihood.likelihood import Likelihood


class Stratified(Estimator):
    """Columns sorted by size and dealt into `samples` buckets, one random-sign sum per bucket.

    Unbiased for any number of buckets, as random signs are, and exact when there are as many as columns: signs only mix
    columns within a bucket, and dealing keeps the large ones apart. One backward chain per bucket.
    """

    @checked
    def __init__(self, samples: Count = 3) -> None:
        self.samples = samples

    def columns(self, likelihood: Likelihood, outputs: Tensor, targets: Tensor, draws: Draws) -> Tensor:  # noqa: ARG002
        """[min(samples, V), *outputs.shape]."""
        norms = likelihood.column_norms(outputs)
        n_columns, n_buckets = len(norms), min(self.samples, len(norms))
        order = norms.argsort(stable=True, dim=0, descending=True)
        bucket = torch.arange(n_columns, device=outputs.device) % n_buckets
        signs = draws.signs(n_columns, dtype=outputs.dtype).to(outputs.device)
        weights = outputs.new_zeros(n_buckets * n_columns, len(outputs))
        weights.scatter_(0, bucket[:, None] * n_columns + order, signs)
        return likelihood.combine(outputs, weights.view(n_buckets, n_columns, -1))
