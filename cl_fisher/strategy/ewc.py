"""Elastic weight consolidation, one penalty per task."""

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


class EWC(Strategy):
    """Penalty (strength/2) sum_t (theta - theta_t)^T F_t (theta - theta_t) over the tasks t consolidated so far.

    F_t is the mean over the task's examples of the log-likelihood Fisher at theta_t, the weights at the end of task t
    (Kirkpatrick et al. 2017, eq. 3, with a penalty for each task). The penalties collapse into one quadratic.

    In a plain loop: `loss.backward(); ewc.add_gradient(); optimizer.step()`, and `ewc.consolidate(batches)` after a
    task. With gradient accumulation call `add_gradient` once per optimizer step; with clipping call it before, so that
    what is clipped is the gradient of the whole objective; with a GradScaler call `scaler.unscale_(optimizer)` first.

    Args:
        model: the network; parameters are matched by name, frozen ones are left alone.
        strength: lambda, at least 0. 0 leaves the gradients untouched.
        estimator: as in `estimate_fisher`.
        structure: as in `estimate_fisher`.
        samples: how many examples of a task enter its Fisher; all if None.
        sampling: as in `estimate_fisher`.
        seed: as in `estimate_fisher`.
        likelihood: as in `estimate_fisher`.
        until: as in `estimate_fisher`.
        check: as in `estimate_fisher`.
        step: "gradient": the penalty's gradient joins the loss's. "proximal": call `ewc.after_step(optimizer)` after
            each step instead, which solves the quadratic exactly, so that no strength diverges (SGD, Adam, AdamW).
    """

    @checked
    def __init__(
        self,
        model: nn.Module,
        strength: NonNegative = 100.0,
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
        """Add the penalty of a finished task, from its batches (see `estimate_fisher`) and its active classes.

        With `distributed`, each process of torch.distributed gives its own share of the batches.
        """
        fisher = self._estimate(self.model, batches, classes=classes, distributed=distributed)
        self.quadratic.add(fisher, self.model)
        return fisher

    def check(self, batches: Iterable[Sequence[Any]], classes: Sequence[int] | None = None) -> FisherMatrix:
        """Estimate once, and leave it at that."""
        return self._estimate(self.model, batches, classes=classes, check=False)
