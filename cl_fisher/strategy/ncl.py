"""Steps that avoid the directions that matter to earlier tasks."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import torch
from torch import nn

from cl_fisher.bounds import NonNegative, Positive, checked
from cl_fisher.error import InputError
from cl_fisher.fisher import FisherMatrix
from cl_fisher.strategy.strategy import Strategy

_OTHERS = ("begin_task", "training_data", "mix", "loss", "add_gradient", "after_step", "serving")
"""Hooks that NCL does not call for its prior."""


class NCL(Strategy):
    """Gradient descent on loss + penalty in the metric of the penalty: g <- (I + strength/damping P)^-1 g.

    Kao et al. 2021, "Natural continual learning: success is a journey, not (just) a destination". With Lambda =
    strength P + damping I their step is Lambda^-1 grad loss + (theta - theta_last); this one is damping times that,
    less the pull that damping itself would add. Where strength P is much smaller than damping it is plain gradient
    descent. No strength diverges while lr * damping < 2 (of the penalty), and the stationary point is that of loss +
    penalty.

    Output rows that are held or free of the penalty (scenario.old_rows) need a P that is diagonal: they are solved for
    together with the others else.

    P, the sum of earlier tasks' Fishers, and the penalty are those of `prior`, with any structure. Strength 0 is plain
    fine-tuning bit for bit. For gradient descent: Adam divides by the gradient's size and so undoes a diagonal P.

    Args:
        model: the network.
        prior: makes a strategy with a quadratic penalty from the model, such as a `functools.partial` of `OnlineEWC`,
            `EWC` or `MAS`; one that consolidates and does nothing else.
        strength: lambda, of the penalty (instead of the prior's own) and in the metric.
        damping: the value of strength P from which on a direction is avoided.

    Raises:
        InputError: the prior's penalty is not a gradient, or it is not all that the prior does.
    """

    @checked
    def __init__(
        self,
        model: nn.Module,
        prior: Callable[..., Strategy],
        strength: NonNegative = 100.0,
        damping: Positive = 1.0,
    ) -> None:
        super().__init__(model, strength)
        self.damping = damping
        self.prior = prior(model=model)
        if self.prior.step != "gradient":
            raise InputError("strategy.prior.step=proximal is not possible in ncl, whose steps need the gradient")
        kind = type(self.prior)
        if kind.consolidate is Strategy.consolidate or any(
            getattr(kind, h) is not getattr(Strategy, h) for h in _OTHERS
        ):
            raise InputError(
                f"strategy.prior={kind.__name__} is not possible in ncl, which asks of it a quadratic penalty at each "
                "task's end and nothing during it: such as OnlineEWC, EWC or MAS"
            )
        self.quadratic = self.prior.quadratic

    @torch.no_grad()
    def add_gradient(self, parameters: Iterable[nn.Parameter] | None = None) -> None:
        """Add that of the penalty, then bend both away from where the precision is large."""
        wanted = None if parameters is None else list(parameters)
        super().add_gradient(wanted)
        precision = self.quadratic.precision
        if precision is None or self.strength == 0:
            return
        theirs = None if wanted is None else {id(p) for p in wanted}
        weights = {name: p for name, p in self.model.named_parameters() if name in self.quadratic.centre}
        moved = {n: p for n, p in weights.items() if p.requires_grad and (theirs is None or id(p) in theirs)}
        gradient = {
            name: cast("torch.Tensor", p.grad) if name in moved else torch.zeros_like(p) for name, p in weights.items()
        }
        ratio = self.damping / self.strength
        for name, bent in precision.solve(gradient, ratio).items():
            if name in moved:
                gradient[name].copy_(ratio * bent)

    def consolidate(
        self, batches: Iterable[Sequence[Any]], classes: Sequence[int] | None = None
    ) -> FisherMatrix | None:
        """The prior's."""
        return self.prior.consolidate(batches, classes)

    def check(self, batches: Iterable[Sequence[Any]], classes: Sequence[int] | None = None) -> FisherMatrix | None:
        """The prior's."""
        return self.prior.check(batches, classes)

    def curvature_bound(self) -> float:
        """Of what the steps see: largest / (1 + strength/damping largest)."""
        largest = self.quadratic.largest_eigenvalue()
        return largest / (1 + self.strength / self.damping * largest)

    def memory(self) -> dict[str, Any]:
        """What the prior keeps beside its penalty."""
        return self.prior.memory()

    def recall(self, memory: dict[str, Any]) -> None:
        """Undo `memory`."""
        self.prior.recall(memory)
