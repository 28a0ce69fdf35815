"""Memory aware synapses: importance is how much a weight matters for what the network says, right or wrong."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from cl_fisher.bounds import Count, NonNegative, checked
from cl_fisher.fisher import estimate_fisher
from cl_fisher.fisher.draws import Draws
from cl_fisher.fisher.estimator.estimator import Estimator
from cl_fisher.fisher.likelihood.likelihood import Likelihood
from cl_fisher.fisher.rule.linear import LinearRule
from cl_fisher.fisher.rule.rule import LayerUse
from cl_fisher.fisher.structure.diagonal import Diagonal
from cl_fisher.fisher.structure.structure import Accumulator, Structure
from cl_fisher.fisher.structure.wide import wide
from cl_fisher.strategy.strategy import Step, Strategy


class MAS(Strategy):
    """Penalty (strength/2) sum_i Omega_i (theta_i - theta_last_i)^2 (Aljundi et al. 2018, eq. 3 to 5).

    After each task Omega_i += mean over its examples of |d ||f(x)||^2 / d theta_i|, f the logits that compete for the
    task's examples, in evaluation mode: the absolute value is taken for each example, as in the paper, not for each
    batch. Importances of tasks add up. The paper's penalty is lambda sum_i Omega_i (...)^2, so strength = 2 lambda.

    In a plain loop as `EWC`. Labels have no influence; they are only checked.

    Args:
        model: the network; frozen parameters are left alone.
        strength: twice the paper's lambda. 0 leaves the gradients untouched.
        samples: how many examples of a task are looked at; all if None.
        step: as in `EWC`.
    """

    @checked
    def __init__(
        self,
        model: nn.Module,
        strength: NonNegative = 2.0,
        samples: Count | None = None,
        step: Step = "gradient",
    ) -> None:
        super().__init__(model, strength, step)
        self._estimate = partial(estimate_fisher, estimator=OutputNorm(), structure=MeanAbsolute(), samples=samples)

    def consolidate(
        self, batches: Iterable[Sequence[Any]], classes: Sequence[int] | None = None, distributed: bool = False
    ) -> None:
        """Add the importances for a finished task, and move the penalty to the weights now; see `EWC`."""
        importance = self._estimate(self.model, batches, classes=classes, distributed=distributed)
        self.quadratic.move(importance, self.model, gamma=1.0)

    def check(self, batches: Iterable[Sequence[Any]], classes: Sequence[int] | None = None) -> None:
        """Estimate once, and leave it at that."""
        self._estimate(self.model, batches, classes=classes)


class OutputNorm(Estimator):
    """One column: the gradient 2 f of ||f||^2 with respect to the outputs f."""

    def columns(self, likelihood: Likelihood, outputs: Tensor, targets: Tensor, draws: Draws) -> Tensor:  # noqa: ARG002
        """Twice the outputs."""
        return 2 * outputs[None]


class AbsoluteAccumulator(Accumulator):
    """Sums absolute per-example gradients: float32 within a batch, float64 across batches."""

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        self._like = dict(parameters)
        self._sum = {name: wide(p.detach()).new_zeros(p.shape) for name, p in parameters.items()}

    def takes(self, use: LayerUse) -> bool:
        """A linear layer on vectors: of an outer product the absolute value is that of its factors."""
        return isinstance(use.rule, LinearRule) and use.inputs.dim() == 2

    def add_layer(self, use: LayerUse, gradients: list[Tensor]) -> None:
        """|G|^T |X| and the sum of |G|."""
        for g in gradients:
            found = {"weight": g.abs().T @ use.inputs.abs(), "bias": g.abs().sum(0)}
            for local, name in use.names.items():
                self._sum[name] += wide(found[local])

    def add_gradients(self, gradients: Mapping[str, Tensor]) -> None:
        """Absolute values of the per-example gradients."""
        for name, g in gradients.items():
            self._sum[name] += wide(g.abs().sum((0, 1)))

    def sums(self) -> list[Tensor]:
        """The sums of absolute values."""
        return list(self._sum.values())

    def finish(self, n_examples: float, info: Mapping[str, Any]) -> Diagonal:
        """The mean, in the parameters' own type and place."""
        return Diagonal({name: (s / n_examples).to(self._like[name]) for name, s in self._sum.items()}, info=info)


class MeanAbsolute(Structure):
    """E|g_i| in the place of the Fisher's diagonal E[g_i^2]."""

    def accumulator(self, model: nn.Module, parameters: Mapping[str, nn.Parameter]) -> AbsoluteAccumulator:  # noqa: ARG002
        """Zeros for every parameter."""
        return AbsoluteAccumulator(parameters)
