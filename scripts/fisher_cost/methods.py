"""What is measured: one way of estimating each, ours here, those of others in `peers`."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from cl_fisher.fisher import FisherMatrix, estimate_fisher
from cl_fisher.fisher.estimate import STRUCTURES
from cl_fisher.fisher.estimator.estimator import Estimator
from cl_fisher.fisher.estimator.monte_carlo import MonteCarlo
from cl_fisher.fisher.estimator.signs import Signs
from cl_fisher.fisher.estimator.stratified import Stratified
from cl_fisher.fisher.structure.structure import Structure

Run = Callable[[nn.Module, Tensor, Tensor, int], Tensor | None]
"""(model, inputs, targets, batch size) -> the diagonal [P], or None where the result is not a diagonal."""


class UnavailableError(Exception):
    """A method cannot do this, for the reason given."""


@dataclass(frozen=True)
class Method:
    """A library's way to some estimate."""

    library: str
    what: str
    """A key of `floors.COLUMNS`."""
    run: Run
    sizes: tuple[int, ...] | None = None
    """Batch sizes to choose from, if not the case's own."""

    @property
    def name(self) -> str:
        return f"{self.library}: {self.what}"


def plain(model: nn.Module, inputs: Tensor, targets: Tensor, size: int) -> None:
    """What everything is measured in: forward, and backward with weight gradients."""
    for x, y in zip(inputs.split(size), targets.split(size), strict=True):
        model.zero_grad()
        cross_entropy(model(x), y).backward()
    model.zero_grad()


def training_step(model: nn.Module, inputs: Tensor, targets: Tensor, size: int) -> None:
    """The same with a step of plain SGD, of size zero."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    for x, y in zip(inputs.split(size), targets.split(size), strict=True):
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()


def _estimate(
    model: nn.Module, inputs: Tensor, targets: Tensor, size: int, estimator: Estimator | str, structure: Structure | str
) -> FisherMatrix:
    batches = list(zip(inputs.split(size), targets.split(size), strict=True))
    return estimate_fisher(model, batches, "categorical", estimator, structure)


def _diagonal(estimator: Estimator | str, model: nn.Module, inputs: Tensor, targets: Tensor, size: int) -> Tensor:
    entries = _estimate(model, inputs, targets, size, estimator, "diagonal").diagonal()
    return torch.cat([entries[name].flatten() for name, _ in model.named_parameters()])


def _kronecker(structure: str, model: nn.Module, inputs: Tensor, targets: Tensor, size: int) -> None:
    """With one draw; networks with other layers than these two keep the diagonal of the others."""
    choice: str | Structure = structure
    own = [m for m in model.modules() if any(True for _ in m.parameters(recurse=False))]
    if not all(type(m) in (nn.Linear, nn.Conv2d) for m in own):
        choice = STRUCTURES["mixed"](structure)
    _estimate(model, inputs, targets, size, MonteCarlo(1), choice)


OURS = [
    Method("cl_fisher", "empirical", partial(_diagonal, "empirical")),
    Method("cl_fisher", "labels", partial(_diagonal, MonteCarlo(1))),
    Method("cl_fisher", "signs", partial(_diagonal, Signs(1))),
    Method("cl_fisher", "stratified", partial(_diagonal, Stratified(3))),
    Method("cl_fisher", "exact", partial(_diagonal, "exact")),
    Method("cl_fisher", "kfac", partial(_kronecker, "kronecker")),
    Method("cl_fisher", "ekfac", partial(_kronecker, "ekfac")),
]
