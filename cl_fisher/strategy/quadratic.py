"""Any number of quadratic penalties, kept as one: its time and memory do not grow with the tasks."""

from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from cl_fisher.error import InputError, RunError
from cl_fisher.fisher import FisherMatrix
from cl_fisher.fisher.storage import restored
from cl_fisher.strategy.proximal import Metric, pulled


class QuadraticPenalty:
    """d^T precision d + 2 linear^T d + constant, with d = theta - centre, over parameters matched by name.

    The sum over tasks of (theta - theta_t)^T F_t (theta - theta_t) is one. Where the square can be completed (diagonal)
    there is no linear term; else the centre is the last task's optimum, so that near it nothing cancels. The factor
    strength/2 is the caller's. Parameters may be added, grow, be frozen and be freed between tasks: where a task says
    nothing of a parameter its precision is zero.
    """

    def __init__(self) -> None:
        self.precision: FisherMatrix | None = None
        self.centre: dict[str, Tensor] = {}
        self.linear: dict[str, Tensor] = {}
        """Empty: zero. In 32 bits at least, as what the precision makes of weights in 16 bits."""
        self.constant = 0.0
        self.n_tasks = 0
        self._alive: bool | None = None

    @torch.no_grad()
    def add(self, fisher: FisherMatrix, model: nn.Module) -> None:
        """Add a task's penalty, one of its own: its Fisher about the weights now."""
        anchor = self._take_in(fisher, model)
        if self.precision is None:
            self.precision, self.centre = fisher, anchor
            return
        fisher = fisher.grown(anchor)
        if square := self.precision.complete_square(self.centre, fisher, anchor):
            self.precision, self.centre, constant = square
            self.constant += constant
            return
        delta = {name: a - self.centre[name] for name, a in anchor.items()}
        self.constant = self._value(delta)
        slope = self.precision.mv(delta)
        self.linear = {name: g + self.linear[name] if self.linear else g for name, g in slope.items()}
        merged = self.precision.merged(fisher)
        self.linear, self.constant = merged.bounded(self.linear, self.constant)
        self.precision, self.centre = merged, anchor

    @torch.no_grad()
    def move(self, fisher: FisherMatrix, model: nn.Module, gamma: float) -> None:
        """One penalty at the last optimum: precision = gamma * old + new, centre = the weights now."""
        anchor = self._take_in(fisher, model)
        if self.precision is not None:
            fisher = (gamma * self.precision).merged(fisher.grown(anchor))
        self.precision = fisher
        self.centre, self.linear, self.constant = anchor, {}, 0.0  # of a sum that was loaded, too

    @torch.no_grad()
    def value(self, model: nn.Module) -> float:
        """The value at the model's weights, without the factor strength/2."""
        if self.precision is None:
            return 0.0
        weights = self._weights(model)
        delta = {name: weights[name] - c for name, c in self.centre.items()}
        return self._value(delta)

    def _value(self, delta: Mapping[str, Tensor]) -> float:
        assert self.precision is not None
        slope = sum(float(g.flatten().dot(delta[name].flatten().to(g.dtype))) for name, g in self.linear.items())
        return float(self.precision.quadratic(delta)) + 2 * slope + self.constant

    @torch.no_grad()
    def add_gradient(self, model: nn.Module, strength: float, parameters: Iterable[nn.Parameter] | None = None) -> None:
        """Add strength * precision (theta - centre) to the gradients; the gradient of strength/2 times the value.

        Frozen parameters are left alone, and all that are not among `parameters` if these are given.
        """
        if self.precision is None or strength == 0:
            return
        self._check_alive()
        weights = self._weights(model)
        wanted = None if parameters is None else {id(p) for p in parameters}
        gradients = {}
        for name in self.centre:
            p = weights[name]
            theirs = not p.requires_grad or (wanted is not None and id(p) not in wanted)
            if p.grad is None and not theirs:
                p.grad = torch.zeros_like(p)
            gradients[name] = torch.zeros_like(p) if theirs else cast("Tensor", p.grad)
        names = list(self.centre)
        moved = torch._foreach_sub([weights[n] for n in names], [self.centre[n] for n in names])
        delta = dict(zip(names, moved, strict=True))
        self.precision.add_product_(gradients, delta, strength)
        if self.linear:
            torch._foreach_add_([gradients[n] for n in names], [self.linear[n] for n in names], alpha=strength)

    @torch.no_grad()
    def proximal(self, model: nn.Module, strength: float, metric: Metric) -> None:
        """Move the weights w to the minimum over v of (v - w)^T M (v - w) / (2 s) + strength/2 value(v).

        `metric` has M / s (see `cl_fisher.strategy.proximal`); parameters that it does not name stay where they are.
        Where the precision is diagonal, or M a multiple of the identity, the solution is exact, else by conjugate
        gradients.
        """
        if self.precision is None or strength == 0:
            return
        self._check_alive()
        weights = self._weights(model)
        scale = {name: metric[id(weights[name])] / strength for name in self.centre if id(weights[name]) in metric}
        names = list(scale)
        moved = torch._foreach_sub([weights[n] for n in names], [self.centre[n] for n in names])
        right = {name: d * scale[name] for name, d in zip(names, moved, strict=True)}
        if self.linear:
            right = {name: r - self.linear[name] for name, r in right.items()}
        held = {name: weights[name] - c for name, c in self.centre.items() if name not in scale}
        for name, delta in pulled(self.precision, scale, right, held).items():
            weights[name].copy_(self.centre[name] + delta)

    def largest_eigenvalue(self) -> float:
        """Of the precision; 0.0 before the first task."""
        return 0.0 if self.precision is None else self.precision.largest_eigenvalue()

    @property
    def bytes(self) -> int:
        """Memory held."""
        kept = 0 if self.precision is None else self.precision.bytes
        return kept + sum(t.numel() * t.element_size() for t in [*self.centre.values(), *self.linear.values()])

    @property
    def merge_error(self) -> float:
        """Of the precision, as its matrix tells it."""
        return 0.0 if self.precision is None else float(self.precision.info.get("merge_error", 0.0))

    def _check_alive(self) -> None:
        if self._alive is None:
            assert self.precision is not None
            self._alive = self.precision.trace() > 0
        if not self._alive:
            raise RunError(
                "the consolidated Fisher is zero everywhere, so the penalty protects nothing: the network is so "
                "confident that its probabilities underflow, or the wrong outputs are active"
            )

    def _take_in(self, fisher: FisherMatrix, model: nn.Module) -> dict[str, Tensor]:
        """A copy of all weights that this task or an earlier one speaks of, old state brought to their form."""
        if self.precision is not None:
            self.precision.check_alike(fisher)
        self.n_tasks += 1
        self._alive = None
        names = self.centre.keys() | fisher.shapes().keys()
        anchor = {name: p.detach().clone() for name, p in model.named_parameters() if name in names}
        if self.precision is not None:
            self._follow(anchor)
        return anchor

    def _weights(self, model: nn.Module) -> dict[str, nn.Parameter]:
        weights = dict(model.named_parameters())
        for name, c in self.centre.items():
            p = weights.get(name)
            if p is None or p.shape != c.shape or p.device != c.device or p.dtype != c.dtype:
                self._follow({name: weights[name].detach() for name in self.centre if name in weights})
                break
        return weights

    def _follow(self, weights: Mapping[str, Tensor]) -> None:
        """Take the form of the weights: their device (a checkpoint is read onto the CPU), type, and what has grown."""
        assert self.precision is not None
        if gone := [name for name in self.centre if name not in weights]:
            raise RunError(f"the model no longer has the parameter {gone[0]}, which a penalty was consolidated for")
        centre = {name: grown(name, self.centre.get(name), w.clone()) for name, w in weights.items()}
        self.precision, self.centre = self.precision.to(weights).grown(weights), centre
        if self.linear:
            none = {name: torch.zeros_like(w, dtype=_precise(w.dtype)) for name, w in weights.items()}
            self.linear = {name: grown(name, self.linear.get(name), zero) for name, zero in none.items()}

    def state_dict(self) -> dict[str, Any]:
        """Precision, centre, constant and count."""
        kept = self.precision
        return {
            "precision": None
            if kept is None
            else {"kind": kept.kind, "tensors": kept.tensors(), "info": dict(kept.info), "form": kept.form()},
            "centre": dict(self.centre),
            "linear": dict(self.linear),
            "constant": self.constant,
            "n_tasks": self.n_tasks,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Undo `state_dict`."""
        if missing := [name for name in self.state_dict() if name not in state]:
            raise InputError(f"this is no state of a quadratic penalty: it has no {missing[0]}")
        kept = state["precision"]
        self.precision = None if kept is None else restored(**kept)
        self.centre = dict(state["centre"])
        self.linear = dict(state["linear"])
        self.constant = state["constant"]
        self.n_tasks = state["n_tasks"]
        self._alive = None


def _precise(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def grown(name: str, old: Tensor | None, new: Tensor) -> Tensor:
    """`new`, with what was known of this parameter in its first rows; RunError where it has shrunk."""
    if old is None:
        return new
    if new.dim() != old.dim() or any(n < m for n, m in zip(new.shape, old.shape, strict=True)):
        raise RunError(
            f"parameter {name} has shape {tuple(new.shape)}, but a penalty was consolidated for {tuple(old.shape)}: it "
            "may grow, not shrink"
        )
    new[tuple(slice(n) for n in old.shape)] = old.to(new)
    return new
