"""Where the weights went during training, and by how much each of them lowered the loss on the way."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from cl_fisher.error import RunError

Tensors = dict[str, Tensor]
"""By the name of a parameter, of its shape, in 32 bits at least."""


class Path:
    """The path integral - sum over steps of g_i * (step of weight i), with g the gradient before each step.

    A step is booked when the next one begins, or at the `end`: so it is the whole way that a weight went, whatever
    moved it (momentum, Adam, weight decay, clipping, a proximal step, rows that are put back). Between two steps a copy
    of weights and gradients is held.
    """

    def __init__(self) -> None:
        self._start: Tensors = {}
        self._gain: Tensors = {}
        self._weights: Tensors = {}
        self._gradient: Tensors = {}

    @torch.no_grad()
    def note(self, model: nn.Module, parameters: Iterable[nn.Parameter] | None = None) -> Tensors:
        """Begin a step at the weights and `.grad` now, for `parameters` (all if None); returns the gradients.

        Frozen parameters are left out. A gradient that is not finite counts as zero: a gradient scaler is about to skip
        the step (a run whose loss is not finite is stopped elsewhere).
        """
        wanted = None if parameters is None else {id(p) for p in parameters}
        noted = {}
        for name, p in model.named_parameters():
            if not p.requires_grad or (wanted is not None and id(p) not in wanted):
                continue
            self._book(name, p)
            gradient = torch.zeros_like(p) if p.grad is None else p.grad
            noted[name] = _precise(gradient).nan_to_num(0.0, 0.0, 0.0)
            self._weights[name] = p.detach().clone()
            self._start.setdefault(name, self._weights[name])
        self._gradient |= noted
        return noted

    @torch.no_grad()
    def end(self, model: nn.Module) -> tuple[Tensors, Tensors]:
        """By how much each weight lowered the loss since the first step, and how far it went; then begin anew."""
        weights = dict(model.named_parameters())
        for name in list(self._weights):
            self._book(name, weights.get(name))
        change = {name: _precise(weights[name]) - s.to(weights[name]) for name, s in self._start.items()}
        gain, self._gain, self._start = self._gain, {}, {}
        return gain, change

    def _book(self, name: str, p: nn.Parameter | None) -> None:
        if name not in self._weights:
            return
        if p is None or p.shape != self._weights[name].shape:
            raise RunError(
                f"parameter {name} has {'gone' if p is None else 'another shape'} since a step of this task: "
                "consolidate before the model changes"
            )
        step = _precise(p) - self._weights.pop(name).to(p)
        gain = self._gain[name].to(step) if name in self._gain else torch.zeros_like(step)
        self._gain[name] = torch.addcmul(gain, self._gradient.pop(name).to(step), step, value=-1)

    def state_dict(self) -> dict[str, Any]:
        """Everything; empty tables at the end of a task."""
        names = ("start", "gain", "weights", "gradient")
        return {name: dict(getattr(self, f"_{name}")) for name in names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo `state_dict`."""
        for name, tensors in state.items():
            setattr(self, f"_{name}", dict(tensors))


def _precise(t: Tensor) -> Tensor:
    return t.detach().to(torch.promote_types(t.dtype, torch.float32))
