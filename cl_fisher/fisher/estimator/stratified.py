"""The Fisher by random signs within strata of columns."""

import torch
from torch import Tensor

from cl_fisher.bounds import Count, checked
from cl_fisher.fisher.draws import Draws
from cl_fisher.fisher.estimator.estimator import Estimator
from cl_fisher.fisher.likelihood.likelihood import Likelihood

_WEIGHED = 4  # times `samples` columns are dealt by weight, one after the other; the many small ones in turn


class Stratified(Estimator):
    """The columns of the square root dealt into `samples` buckets, one random-sign sum per bucket.

    Unbiased for any number of buckets, as random signs are, and exact when there are as many as columns. Signs only mix
    columns of a bucket, with a variance that grows with the square of its sum of squared norms. So the columns go,
    largest first, to the bucket that is lightest so far (Graham 1969, "Bounds on multiprocessing timing anomalies"): a
    confident network's few large ones stay alone, many alike are spread evenly. One backward chain per bucket.
    """

    @checked
    def __init__(self, samples: Count = 3) -> None:
        self.samples = samples

    def columns(self, likelihood: Likelihood, outputs: Tensor, targets: Tensor, draws: Draws) -> Tensor:  # noqa: ARG002
        """[min(samples, V), *outputs.shape]."""
        norms, order = likelihood.column_norms(outputs).sort(stable=True, dim=0, descending=True)
        n_columns, n_buckets = len(norms), min(self.samples, len(norms))
        signs = draws.signs(n_columns, dtype=outputs.dtype).to(outputs.device)
        weights = outputs.new_zeros(n_buckets * n_columns, len(outputs))
        weights.scatter_(0, _dealt(norms.square(), n_buckets) * n_columns + order, signs)
        return likelihood.combine(outputs, weights.view(n_buckets, n_columns, -1))


def _dealt(sizes: Tensor, n_buckets: int) -> Tensor:
    """The bucket of each column, int64 [V, N], from the columns' sizes in falling order [V, N]."""
    load = sizes[:n_buckets].clone()
    bucket = torch.empty(sizes.shape, dtype=torch.int64, device=sizes.device)
    bucket[:n_buckets] = torch.arange(n_buckets, device=sizes.device)[:, None]
    n_weighed = min(len(sizes), _WEIGHED * n_buckets)
    for rank in range(n_buckets, n_weighed):
        bucket[rank] = load.argmin(0)
        load.scatter_add_(0, bucket[rank : rank + 1], sizes[rank : rank + 1])
    turn = torch.arange(len(sizes) - n_weighed, device=sizes.device) % (2 * n_buckets)
    bucket[n_weighed:] = load.argsort(0)[torch.minimum(turn, 2 * n_buckets - 1 - turn)]  # to and fro
    return bucket
