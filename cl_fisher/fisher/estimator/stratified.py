"""The Fisher by random signs within strata of classes."""

import torch
from torch import Tensor

from cl_fisher.bounds import Count, checked
from cl_fisher.fisher.draws import Draws
from cl_fisher.fisher.estimator.estimator import Estimator
from cl_fisher.fisher.likelihood import Likelihood


class Stratified(Estimator):
    """Columns sorted by size and dealt into `samples` buckets, one random-sign sum per bucket.

    Unbiased for any number of buckets, as random signs are, and exact when there are as many as columns: signs only mix
    columns within a bucket, and dealing keeps the large ones apart. One backward chain per bucket.
    """

    @checked
    def __init__(self, samples: Count = 3) -> None:
        self.samples = samples

    def columns(self, likelihood: Likelihood, outputs: Tensor, targets: Tensor, draws: Draws) -> Tensor:  # noqa: ARG002
        """[min(samples, V), N, C]."""
        root = likelihood.square_root(outputs)
        n_columns, n_buckets = len(root), min(self.samples, len(root))
        order = root.square().sum(-1).argsort(0, descending=True)
        ranked = root.gather(0, order[:, :, None].expand_as(root)) * draws.signs(n_columns).to(root)[:, :, None]
        bucket = torch.arange(n_columns, device=root.device) % n_buckets
        return root.new_zeros(n_buckets, *root.shape[1:]).index_add_(0, bucket, ranked)
