"""How precise an estimate of the diagonal is, as far as the examples that have passed can tell."""

import math
from collections.abc import Mapping

from torch import Tensor

LEAST_GROUPS = 8
"""Nothing is said from fewer: with 8 the standard error is itself known to a quarter (1 / sqrt(2 * 7))."""


class Precision:
    """Standard errors from the scatter between groups of consecutive examples.

    Group g of n_g examples has the sum of squares G_g in an entry; F = sum G_g / N, N = sum n_g. For examples drawn
    independently with variance v, sum_g n_g (G_g / n_g - F)^2 = sum_g G_g^2 / n_g - N F^2 has the mean (K - 1) v for
    any sizes of K groups, so

        se^2 = (sum_g G_g^2 / n_g - N F^2) / ((K - 1) N)

    is an unbiased estimate of the variance of F. It is about the distribution that the examples come from: it does not
    become 0 when all of a data set has been seen. Tails make it optimistic: where a few rare examples carry most of an
    entry, those that have not come yet are missing from its error too, so that it covers less than it says. Whoever
    stops at the first error that is small enough adds to that: some are small by chance.

    Two float64 tensors are kept for each parameter.

    Args:
        group: examples that make up a group at least; a group ends with a batch, so that more come of small batches.
    """

    def __init__(self, group: int = 16) -> None:
        self._group = group
        self._before: dict[str, Tensor] = {}
        """Sums at the end of the last group."""
        self._squares: dict[str, Tensor] = {}
        """sum_g G_g^2 / n_g."""
        self._open, self._closed = 0.0, 0.0
        self.n_groups = 0

    def add(self, sums: Mapping[str, Tensor], n_examples: float) -> None:
        """Take note of a batch of so many examples, or draws; `sums` are the running sums of squares after it."""
        self._open += n_examples
        if self._open < self._group:
            return
        for name, total in sums.items():
            now = total.detach().clone()
            group = now - self._before[name] if name in self._before else now.clone()
            self._before[name] = now
            square = group.square_().div_(self._open)
            self._squares[name] = self._squares[name].add_(square) if name in self._squares else square
        self._closed += self._open
        self._open = 0.0
        self.n_groups += 1

    def standard_error(self) -> dict[str, Tensor] | None:
        """Of each entry of F, from the groups that are complete; None before there are 8."""
        if self.n_groups < LEAST_GROUPS:
            return None
        return {name: variance.sqrt() for name, variance in self._variances().items()}

    def relative_error(self) -> float:
        """sqrt(sum of se^2) / ||F||; inf before there are 8 groups, and for F = 0."""
        if self.n_groups < LEAST_GROUPS:
            return math.inf
        error = math.fsum(float(v.sum()) for v in self._variances().values())
        norm = math.fsum(float(s.square().sum()) for s in self._before.values()) / self._closed**2
        return math.sqrt(error / norm) if norm > 0 else math.inf

    def _variances(self) -> dict[str, Tensor]:
        n, freedom = self._closed, self.n_groups - 1
        return {
            name: squares.addcmul(self._before[name], self._before[name], value=-1 / n).clamp_(min=0).div_(freedom * n)
            for name, squares in self._squares.items()
        }
