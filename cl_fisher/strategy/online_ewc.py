"""Online elastic weight consolidation, one penalty in all."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Literal

from torch import nn

from cl_fisher.bounds import Count, Index, NonNegative, UnitInterval, checked
from cl_fisher.fisher import FisherMatrix, estimate_fisher
from cl_fisher.fisher.estimate import chosen
from cl_fisher.fisher.estimator.estimator import Estimator
from cl_fisher.fisher.likelihood.likelihood import Likelihood
from cl_fisher.fisher.structure.structure import Structure
from cl_fisher.strategy.strategy import Step, Strategy


class OnlineEWC(Strategy):
    """Penalty (strength/2) (theta - theta_last)^T P (theta - theta_last), with P <- gamma * P + F_t after task t.

    One penalty at the last optimum (Huszar 2018, "Note on the quadratic penalties in elastic weight consolidation";
    gamma as in Schwarz et al. 2018, "Progress & Compress", sec. 3.2). With gamma = 1 and exact Fishers of
    linear-Gaussian tasks this is the exact posterior.

    Used like `EWC`, whose other arguments it shares.

    Args:
        model: as in `EWC`.
        strength: as in `EWC`.
        gamma: from 0 to 1, how much of the older precision each new task leaves.
        estimator: as in `EWC`.
        structure: as in `EWC`.
        samples: as in `EWC`.
        sampling: as in `EWC`.
        seed: as in `EWC`.
        likelihood: as in `EWC`.
        until: as in `EWC`.
        check: as in `EWC`.
        step: as in `EWC`.
    """

    @checked
    def __init__(
        self,
        model: nn.Module,
        strength: NonNegative = 100.0,
        gamma: UnitInterval = 1.0,
        estimator: str | Estimator = "exact",
        structure: str | Structure = "diagonal",
        samples: Count | None = None,
        sampling: Literal["uniform", "importance"] = "uniform",
        seed: Index = 0,
        likelihood: str | Likelihood = "categorical",
        until: UnitInterval | None = None,
        check: bool = False,
        step: Step = "gradient",
    ) -> None:
        super().__init__(model, strength, step)
        chosen(likelihood, estimator, structure, sampling, samples, until)  # refused now, not after the first task
        self.gamma = gamma
        self._estimate = partial(
            estimate_fisher,
            estimator=estimator,
            structure=structure,
            samples=samples,
            sampling=sampling,
            seed=seed,
            likelihood=likelihood,
            until=until,
            check=check,
        )

    def consolidate(
        self, batches: Iterable[Sequence[Any]], classes: Sequence[int] | None = None, distributed: bool = False
    ) -> FisherMatrix:
        """Move the penalty to the weights now, with precision gamma * old + the Fisher of these batches; see `EWC`."""
        fisher = self._estimate(self.model, batches, classes=classes, distributed=distributed)
        self.quadratic.move(fisher, self.model, self.gamma)
        return fisher

    def check(self, batches: Iterable[Sequence[Any]], classes: Sequence[int] | None = None) -> FisherMatrix:
        """Estimate once, and leave it at that."""
        return self._estimate(self.model, batches, classes=classes, check=False)
