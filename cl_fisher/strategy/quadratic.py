"""Any number of quadratic penalties, kept as one: its time and memory do not grow with the tasks."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from cl_fisher.error import RunError
from cl_fisher.fisher import FisherMatrix
from cl_fisher.fisher.storage import MATRICES


class QuadraticPenalty:
    """(theta - centre)^T precision (theta - centre) + constant, over parameters matched by name.

    The sum over tasks of (theta - theta_t)^T F_t (theta - theta_t) is one: squares are completed as tasks come. The
    factor strength/2 is the caller's.
    """

    def __init__(self) -> None:
        self.precision: FisherMatrix | None = None
        self.centre: dict[str, Tensor] = {}
        self.constant = 0.0
        self.n_tasks = 0
        self._alive: bool | None = None

    def add(self, fisher: FisherMatrix, anchor: Mapping[str, Tensor]) -> None:
        """Add a task's penalty, one of its own: its Fisher about its weights."""
        if self.precision is None:
            self.precision, self.centre = fisher, dict(anchor)
        else:
            self._grow(anchor)
            self.precision, self.centre, constant = self.precision.complete_square(self.centre, fisher, anchor)
            self.constant += constant
        self.n_tasks += 1
        self._alive = None

    def move(self, fisher: FisherMatrix, anchor: Mapping[str, Tensor], gamma: float) -> None:
        """One penalty at the last optimum: precision = gamma * old + new, centre = anchor."""
        if self.precision is None:
            self.precision = fisher
        else:
            self._grow(anchor)
            self.precision = gamma * self.precision + fisher
        self.centre = dict(anchor)
        self.n_tasks += 1
        self._alive = None

    @torch.no_grad()
    def value(self, model: nn.Module) -> float:
        """The value at the model's weights, without the factor strength/2."""
        if self.precision is None:
            return 0.0
        weights = self._weights(model)
        delta = {name: weights[name] - c for name, c in self.centre.items()}
        return float(self.precision.quadratic(delta)) + self.constant

    @torch.no_grad()
    def add_gradient(self, model: nn.Module, strength: float) -> None:
        """Add strength * precision (theta - centre) to the gradients; the gradient of strength/2 times the value."""
        if self.precision is None:
            return
        if self._alive is None:
            self._alive = self.precision.trace() > 0
        if not self._alive:
            raise RunError(
                "the consolidated Fisher is zero everywhere, so the penalty protects nothing: the network is so "
                "confident that its probabilities underflow, or the wrong outputs are active"
            )
        weights = self._weights(model)
        names = list(self.centre)
        for name in names:
            if weights[name].grad is None:
                weights[name].grad = torch.zeros_like(weights[name])
        delta = torch._foreach_sub([weights[n] for n in names], [self.centre[n] for n in names])
        gradients = {name: cast("Tensor", weights[name].grad) for name in names}
        self.precision.add_product_(gradients, dict(zip(names, delta, strict=True)), strength)

    def largest_eigenvalue(self) -> float:
        """Of the precision; 0.0 before the first task."""
        return 0.0 if self.precision is None else float(self.precision.eigenvalues()[0])

    def _weights(self, model: nn.Module) -> dict[str, nn.Parameter]:
        weights = dict(model.named_parameters())
        if gone := [name for name in self.centre if name not in weights]:
            raise RunError(f"the model no longer has the parameter {gone[0]}, which a penalty was consolidated for")
        if any(weights[name].shape != c.shape for name, c in self.centre.items()):
            self._grow({name: weights[name].detach() for name in self.centre})
        if any(weights[name].device != c.device for name, c in self.centre.items()):
            self._follow(weights)
        return weights

    def _follow(self, weights: Mapping[str, Tensor]) -> None:
        """Move to where the weights are: a checkpoint is read onto the CPU."""
        assert self.precision is not None
        device = next(iter(weights.values())).device
        moved = {name: t.to(device) for name, t in self.precision.tensors().items()}
        self.precision = type(self.precision).from_tensors(moved, self.precision.info)
        self.centre = {name: c.to(weights[name].device) for name, c in self.centre.items()}

    def _grow(self, anchor: Mapping[str, Tensor]) -> None:
        """Follow a head that has grown: its new rows have no precision yet, and `anchor` as their centre."""
        if self.precision is None or all(anchor[name].shape == c.shape for name, c in self.centre.items()):
            return
        self.precision = self.precision.grown({name: tuple(anchor[name].shape) for name in self.centre})
        for name, old in self.centre.items():
            grown = anchor[name].detach().clone()
            grown[tuple(slice(n) for n in old.shape)] = old
            self.centre[name] = grown

    def state_dict(self) -> dict[str, Any]:
        """Precision, centre, constant and count."""
        precision = self.precision
        return {
            "precision": None
            if precision is None
            else {"kind": precision.kind, "tensors": precision.tensors(), "info": dict(precision.info)},
            "centre": dict(self.centre),
            "constant": self.constant,
            "n_tasks": self.n_tasks,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Undo `state_dict`."""
        kept = state["precision"]
        self.precision = None if kept is None else MATRICES[kept["kind"]].from_tensors(kept["tensors"], kept["info"])
        self.centre = dict(state["centre"])
        self.constant = state["constant"]
        self.n_tasks = state["n_tasks"]
        self._alive = None


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the trainable parameters."""
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
