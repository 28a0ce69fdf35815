"""The data of an estimate, kept, and products with the Fisher that it stands for."""

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves, tree_map

from cl_fisher.error import InputError
from cl_fisher.fisher.batches import Batch
from cl_fisher.fisher.estimator.exact import Exact
from cl_fisher.fisher.fallback import PerExample
from cl_fisher.fisher.full_precision import full_precision
from cl_fisher.fisher.likelihood.categorical import Categorical
from cl_fisher.fisher.one_pass import Pass, Question
from cl_fisher.fisher.structure.diagonal import DiagonalAccumulator
from cl_fisher.fisher.structure.matrix import Parameters
from cl_fisher.fisher.structure.wide import wide

_BYTES = 2**28  # of gradients that are held at once


@dataclass(frozen=True, eq=False)
class Kept:
    """A model at theta* and the batches of its Fisher: F = 1/n sum over batches of J^T S S^T J.

    J v comes by forward-mode differentiation, or, where an operation of the model has no such rule, by two backward
    passes: J^T u is linear in u, and its gradient along v is J v.
    """

    model: nn.Module
    """A copy of its own, in evaluation mode."""
    batches: Sequence[tuple[Batch, Tensor]]
    """N examples, their index their position here, and columns S [V, N, ..., C]."""
    n_examples: float
    forwards: bool = field(init=False, default=True)
    """Whether J v comes by forward mode."""

    def __post_init__(self) -> None:
        batch, columns = self.batches[0]
        zero = {name: torch.zeros_like(p) for name, p in self.parameters().items()}
        for forwards in (True, False):
            object.__setattr__(self, "forwards", forwards)
            try:
                with _differentiating(columns), warnings.catch_warnings():
                    # at its first use forward mode loads scripts of torch's own, which torch then warns of
                    warnings.simplefilter("ignore", FutureWarning)
                    pushed = self._pushed(batch, zero)
            except torch.OutOfMemoryError:
                raise
            except (RuntimeError, NotImplementedError, ValueError) as error:
                reason = str(error).strip().splitlines()[0]
            else:
                if not bool(pushed.isfinite().all()) or any(not bool(s.isfinite().all()) for _, s in self.batches):
                    raise InputError("the Fisher is not finite: look at the inputs, the targets, and for the root of 0")
                return
        raise InputError(f"implicit needs a model that can be differentiated forwards or twice, this cannot: {reason}")

    def parameters(self) -> dict[str, nn.Parameter]:
        """Those that the Fisher is over, with the model's values."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def quadratic(self, vector: Parameters) -> Tensor:
        """v^T F v = 1/n sum |S^T J v|^2: one J v per batch, and nothing else."""
        parts = []
        for batch, columns in self.batches:
            with _differentiating(columns):
                parts.append(_products(columns, self._pushed(batch, vector)).square().sum())
        return torch.stack(parts).sum() / self.n_examples

    def mv(self, vector: Parameters) -> dict[str, Tensor]:
        """F v: J v and J^T of S S^T J v, which share the forward pass."""
        total: dict[str, Tensor] = {}
        for batch, columns in self.batches:
            with _differentiating(columns):
                pushed, outputs, leaves = self._linearised(batch, vector)
                cotangent = torch.einsum("vn,vn...->n...", _products(columns, pushed), columns) / self.n_examples
                pulled = torch.autograd.grad(outputs, list(leaves.values()), cotangent, materialize_grads=True)
            for name, g in zip(leaves, pulled, strict=True):
                total[name] = total[name].add_(g) if name in total else g
        return total

    def _pushed(self, batch: Batch, vector: Parameters) -> Tensor:
        """J v, [N, C]."""
        if not self.forwards:
            return self._linearised(batch, vector)[0]
        with torch.no_grad():
            return self._forward_mode(batch, {n: p.detach() for n, p in self.parameters().items()}, vector)[0]

    def _linearised(self, batch: Batch, vector: Parameters) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """J v, and the outputs with the graph back to the leaves."""
        leaves = {name: p.detach().requires_grad_() for name, p in self.parameters().items()}
        if self.forwards:
            return *self._forward_mode(batch, leaves, vector), leaves
        outputs = functional_call(self.model, leaves, (batch.copied_inputs(),))
        u = torch.zeros_like(outputs, requires_grad=True)
        pulled = torch.autograd.grad(outputs, list(leaves.values()), u, create_graph=True, materialize_grads=True)
        pushed = torch.autograd.grad(pulled, u, [vector[name] for name in leaves], retain_graph=True)[0]
        return pushed, outputs, leaves

    def _forward_mode(self, batch: Batch, at: Parameters, vector: Parameters) -> tuple[Tensor, Tensor]:
        """J v and the outputs. A backward pass must come after: within the dual level it would be differentiated."""
        with forward_ad.dual_level():
            dual = {name: forward_ad.make_dual(p, vector[name]) for name, p in at.items()}
            outputs, tangent = forward_ad.unpack_dual(functional_call(self.model, dual, (batch.copied_inputs(),)))
            return torch.zeros_like(outputs) if tangent is None else tangent.detach(), outputs

    def diagonal(self) -> dict[str, Tensor]:
        """The exact diagonal, by the rules of the layers."""
        weights = self.parameters()
        given = torch.cat([columns for _, columns in self.batches], 1)
        with _differentiating(given):
            accumulator = DiagonalAccumulator(weights)
            work = Pass(_Given(self.model, weights, Categorical(), Exact(), None, 0, _BYTES, given), [accumulator])
            for batch, _ in self.batches:
                work.add(batch)
        return accumulator.finish(self.n_examples, {}).diagonal()

    def dense(self) -> Tensor:
        """The matrix [P, P] in float64, from per-example gradients."""
        weights = self.parameters()
        size = sum(p.numel() for p in weights.values())
        with torch.inference_mode(False):
            total = wide(next(iter(weights.values()))).new_zeros(size, size)
        for batch, columns in self.batches:
            with _differentiating(columns):
                for part in PerExample(self.model)(batch, columns, weights, _BYTES):
                    rows = torch.cat(
                        [wide(part[name]).reshape(*part[name].shape[:2], -1) for name in weights], -1
                    ).flatten(0, 1)
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
        batches = [(replace(b, inputs=tree_map(moved, b.inputs)), moved(s)) for b, s in self.batches]
        return Kept(model, batches, self.n_examples)

    @property
    def bytes(self) -> int:
        """Memory held: the model, the inputs and the columns."""
        held = [*self.model.parameters(), *self.model.buffers(), *tree_leaves([(b.inputs, s) for b, s in self.batches])]
        return sum(t.numel() * t.element_size() for t in held if isinstance(t, Tensor))


@dataclass(frozen=True)
class _Given(Question):
    """Whose columns are there already."""

    given: Tensor
    """[V, all examples, ..., C]."""

    def columns(self, outputs: Tensor, batch: Batch) -> Iterator[Tensor]:  # noqa: ARG002
        """Those of the batch's examples."""
        yield self.given[:, batch.index.to(self.given.device)]


def _products(columns: Tensor, pushed: Tensor) -> Tensor:
    """S^T J v, [V, N]."""
    return (columns * pushed).flatten(2).sum(-1)


@contextmanager
def _differentiating(like: Tensor) -> Iterator[None]:
    """Gradients on, whatever the caller does, in full precision, with attention in a form that can be differentiated.

    Its fused kernels have neither a forward-mode rule nor a second derivative.
    """
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(like.device.type, enabled=False),
        full_precision(),
        sdpa_kernel(SDPBackend.MATH),
    ):
        yield


def kept(model: nn.Module, names: Mapping[str, Any], batches: Sequence[tuple[Batch, Tensor]], n: float) -> Kept:
    """Examples and columns, with a copy of the model as it is, over the parameters of these names.

    Raises:
        InputError: the model cannot be copied, or an operation of it cannot be differentiated.
    """
    try:
        with torch.inference_mode(False):
            model = copy.deepcopy(model).eval()
    except RuntimeError as error:
        raise InputError(f"implicit keeps a copy of the model, which cannot be copied: {error}") from error
    for name, p in model.named_parameters():
        p.requires_grad_(name in names)
    numbered, first = [], 0
    for batch, columns in batches:
        index = torch.arange(first, first + len(batch))
        numbered.append((replace(batch, index=index, weights=None), columns))
        first += len(batch)
    return Kept(model, numbered, n)
