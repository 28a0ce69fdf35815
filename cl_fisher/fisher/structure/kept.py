"""The data of an estimate, kept, and products with the Fisher that it stands for."""

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves, tree_map

from cl_fisher.error import InputError
from cl_fisher.fisher.draws import Draws
from cl_fisher.fisher.estimator.estimator import Estimator
from cl_fisher.fisher.fallback import per_example_gradients, taken
from cl_fisher.fisher.likelihood import Likelihood
from cl_fisher.fisher.structure.diagonal import _wide
from cl_fisher.fisher.structure.matrix import Parameters

_BYTES = 64 * 2**20  # of per-example gradients that are held at once


@dataclass(frozen=True, eq=False)
class Kept:
    """A model at theta* and the batches of its Fisher: F = 1/n sum over batches of J^T S S^T J.

    J v comes by forward-mode differentiation, or, where an operation of the model has no such rule, by two backward
    passes: J^T u is linear in u, and its gradient along v is J v.
    """

    model: nn.Module
    """A copy of its own, in evaluation mode."""
    batches: Sequence[tuple[Any, Tensor]]
    """Inputs of N examples and columns S [V, N, C]."""
    n_examples: float
    forwards: bool = field(init=False, default=True)
    """Whether J v comes by forward mode."""

    def __post_init__(self) -> None:
        inputs, columns = self.batches[0]
        zero = {name: torch.zeros_like(p) for name, p in self.parameters().items()}
        for forwards in (True, False):
            object.__setattr__(self, "forwards", forwards)
            try:
                with _differentiating(columns), warnings.catch_warnings():
                    # at its first use forward mode loads scripts of torch's own, which torch then warns of
                    warnings.simplefilter("ignore", FutureWarning)
                    self._pushed(inputs, zero)
            except torch.OutOfMemoryError:
                raise
            except (RuntimeError, NotImplementedError, ValueError) as error:
                reason = str(error).strip().splitlines()[0]
            else:
                return
        raise InputError(f"implicit needs a model that can be differentiated forwards or twice, this cannot: {reason}")

    def parameters(self) -> dict[str, nn.Parameter]:
        """Those that the Fisher is over, with the model's values."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def quadratic(self, vector: Parameters) -> Tensor:
        """v^T F v = 1/n sum |S^T J v|^2: one J v per batch, and nothing else."""
        parts = []
        for inputs, columns in self.batches:
            with _differentiating(columns):
                parts.append((columns * self._pushed(inputs, vector)).sum(-1).square().sum())
        return torch.stack(parts).sum() / self.n_examples

    def mv(self, vector: Parameters) -> dict[str, Tensor]:
        """F v: J v and J^T of S S^T J v, which share the forward pass."""
        total: dict[str, Tensor] = {}
        for inputs, columns in self.batches:
            with _differentiating(columns):
                pushed, outputs, leaves = self._linearised(inputs, vector)
                cotangent = ((columns * pushed).sum(-1, keepdim=True) * columns).sum(0) / self.n_examples
                pulled = torch.autograd.grad(outputs, list(leaves.values()), cotangent, materialize_grads=True)
            for name, g in zip(leaves, pulled, strict=True):
                total[name] = total[name].add_(g) if name in total else g
        return total

    def _pushed(self, inputs: Any, vector: Parameters) -> Tensor:
        """J v, [N, C]."""
        if not self.forwards:
            return self._linearised(inputs, vector)[0]
        with torch.no_grad():
            return self._forward_mode(inputs, {n: p.detach() for n, p in self.parameters().items()}, vector)[0]

    def _linearised(self, inputs: Any, vector: Parameters) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """J v, and the outputs with the graph back to the leaves."""
        leaves = {name: p.detach().requires_grad_() for name, p in self.parameters().items()}
        if self.forwards:
            return *self._forward_mode(inputs, leaves, vector), leaves
        outputs = functional_call(self.model, leaves, (taken(inputs, slice(None), -1),))
        u = torch.zeros_like(outputs, requires_grad=True)
        pulled = torch.autograd.grad(outputs, list(leaves.values()), u, create_graph=True, materialize_grads=True)
        pushed = torch.autograd.grad(pulled, u, [vector[name] for name in leaves], retain_graph=True)[0]
        return pushed, outputs, leaves

    def _forward_mode(self, inputs: Any, at: Parameters, vector: Parameters) -> tuple[Tensor, Tensor]:
        """J v and the outputs. A backward pass must come after: within the dual level it would be differentiated."""
        with forward_ad.dual_level():
            dual = {name: forward_ad.make_dual(p, vector[name]) for name, p in at.items()}
            outputs, tangent = forward_ad.unpack_dual(
                functional_call(self.model, dual, (taken(inputs, slice(None), -1),))
            )
            return torch.zeros_like(outputs) if tangent is None else tangent.detach(), outputs

    def diagonal(self) -> dict[str, Tensor]:
        """The exact diagonal, by the rules of the layers."""
        from cl_fisher.fisher.estimate import estimate_fisher  # it knows the structures by name, so it comes later

        given = (columns for _, columns in self.batches)
        batches = ((inputs, _labels(columns)) for inputs, columns in self.batches)
        n = sum(columns.shape[1] for _, columns in self.batches)
        with _differentiating(self.batches[0][1]):
            fisher = estimate_fisher(self.model, batches, estimator=_Given(given))
        return {name: f * (n / self.n_examples) for name, f in fisher.diagonal().items()}

    def dense(self) -> Tensor:
        """The matrix [P, P] in float64, from per-example gradients."""
        weights = self.parameters()
        size = sum(p.numel() for p in weights.values())
        total = _wide(next(iter(weights.values()))).new_zeros(size, size)
        for inputs, columns in self.batches:
            with _differentiating(columns):
                for part in per_example_gradients(self.model, inputs, columns, weights, _BYTES):
                    rows = torch.cat([_wide(part[name]).flatten(2) for name in weights], -1).flatten(0, 1)
                    total.addmm_(rows.T, rows)
        return total / self.n_examples

    def to(self, like: Tensor) -> "Kept":
        """The same where `like` is, and as precise, at least in 32 bits."""
        dtype, old = torch.promote_types(like.dtype, torch.float32), next(iter(self.parameters().values()))
        if old.device == like.device and old.dtype == dtype:
            return self

        def moved(t: Any) -> Any:
            if not isinstance(t, Tensor):
                return t
            return t.to(like.device, dtype if t.is_floating_point() else t.dtype)

        model = copy.deepcopy(self.model).to(like.device, dtype)
        return Kept(model, [(tree_map(moved, inputs), moved(s)) for inputs, s in self.batches], self.n_examples)

    @property
    def bytes(self) -> int:
        """Memory held: the model, the inputs and the columns."""
        held = [*self.model.parameters(), *self.model.buffers(), *tree_leaves(self.batches)]
        return sum(t.numel() * t.element_size() for t in held if isinstance(t, Tensor))


class _Given(Estimator):
    """Columns that are there already, batch by batch."""

    def __init__(self, columns: Iterator[Tensor]) -> None:
        self._columns = columns

    def columns(self, likelihood: Likelihood, outputs: Tensor, targets: Tensor, draws: Draws) -> Tensor:  # noqa: ARG002
        """The next ones."""
        return next(self._columns)


def _labels(columns: Tensor) -> Tensor:
    return torch.zeros(columns.shape[1], dtype=torch.int64)


@contextmanager
def _differentiating(like: Tensor) -> Iterator[None]:
    """Gradients on, whatever the caller does, in full precision, with attention in a form that can be differentiated.

    Its fused kernels have neither a forward-mode rule nor a second derivative.
    """
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(like.device.type, enabled=False),
        sdpa_kernel(SDPBackend.MATH),
    ):
        yield


def kept(model: nn.Module, names: Mapping[str, Any], batches: Sequence[tuple[Any, Tensor]], n: float) -> Kept:
    """Of a copy of the model as it is, over the parameters of these names.

    Raises:
        InputError: the model cannot be copied, or an operation of it cannot be differentiated.
    """
    try:
        model = copy.deepcopy(model).eval()
    except RuntimeError as error:
        raise InputError(f"implicit keeps a copy of the model, which cannot be copied: {error}") from error
    for name, p in model.named_parameters():
        p.requires_grad_(name in names)
    return Kept(model, batches, n)
