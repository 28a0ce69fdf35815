"""Per-example gradients of any parameter of any model: slower than a rule, and right wherever autograd is."""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap
from torch.utils._pytree import tree_map

from cl_fisher.error import InputError
from cl_fisher.fisher.batches import Batch
from cl_fisher.fisher.plain import under_vmap


@dataclass(frozen=True)
class Part:
    """Some of the examples of a batch, and some of the columns."""

    model: nn.Module
    batch: Batch
    cotangents: Tensor
    """[v, n, ..., C]: of these columns and examples."""
    parameters: Mapping[str, nn.Parameter]


class PerExample:
    """Gradients of each example, by vmap where that works and is right.

    torch's vmap has been seen to give wrong gradients without a word (nn.PReLU within two levels of it), so the first
    part of each shape is looked at: two examples must come out as in the plain loop.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._refused = False
        self._trusted: set[tuple[int, int]] = set()

    def __call__(
        self, batch: Batch, cotangents: Tensor, parameters: Mapping[str, nn.Parameter], budget: int
    ) -> Iterator[dict[str, Tensor]]:
        """Gradients [v, n, *shape] of cotangents [V, N, ..., C] times outputs, in parts of about `budget` bytes."""
        n_columns = len(cotangents)
        affordable = budget // max(1, 3 * sum(p.numel() * p.element_size() for p in parameters.values()))
        size, columns = max(1, affordable // n_columns), max(1, min(affordable, n_columns))
        for start in range(0, len(batch), size):
            which = slice(start, start + size)
            for some in cotangents[:, which].split(columns):
                yield self._of(Part(self._model, batch.part(which), some, parameters))

    def _of(self, part: Part) -> dict[str, Tensor]:
        if self._refused:
            return one_by_one(part)
        try:
            with under_vmap():
                found = _by_vmap(part)
            self._look_at(part, found)
        except (torch.OutOfMemoryError, InputError):
            raise
        except (RuntimeError, NotImplementedError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            warnings.warn(f"Fisher example by example, slowly: vmap cannot do this model ({reason})", stacklevel=2)
            self._refused = True
            return one_by_one(part)
        return found

    def _look_at(self, part: Part, found: Mapping[str, Tensor]) -> None:
        shape = len(part.cotangents), len(part.batch)
        if shape in self._trusted:
            return
        two = replace(part, batch=part.batch.part(slice(0, 2)), cotangents=part.cotangents[:, :2])
        true = one_by_one(two)
        check_gradients(true)
        largest = {name: g.abs().max().item() if g.numel() else 0.0 for name, g in true.items()}
        rounding = 1e-5 * max(largest.values())  # of a parameter whose gradient is zero, nothing else is left
        for name, g in true.items():
            if not torch.allclose(found[name][:, :2], g, rtol=1e-2, atol=1e-3 * largest[name] + rounding):
                raise RuntimeError(f"wrong gradients of {name}")
        self._trusted.add(shape)


def check_gradients(gradients: Mapping[str, Tensor]) -> None:
    """Raise `InputError` if one of them is infinite or not a number."""
    if name := next((name for name, g in gradients.items() if not bool(g.isfinite().all())), None):
        raise InputError(
            f"the gradient of {name} is not finite, though the outputs are: look at the inputs, and for operations "
            "without a derivative, such as the root of 0"
        )


def _by_vmap(part: Part) -> dict[str, Tensor]:
    apart = tree_map(lambda is_apart: 0 if is_apart else None, part.batch.apart)

    def of_one(example: Any, columns: Tensor) -> dict[str, Tensor]:
        def outputs(values: dict[str, Tensor]) -> Tensor:
            batch = tree_map(lambda t, is_apart: t[None].clone() if is_apart else t, example, part.batch.apart)
            return functional_call(part.model, values, (batch,))[0]

        pull = vjp(outputs, {name: p.detach() for name, p in part.parameters.items()})[1]
        return vmap(lambda column: pull(column)[0])(columns)

    with under_vmap():
        gradients = vmap(of_one, in_dims=(apart, 1))(part.batch.copied_inputs(), part.cotangents)
    return {name: g.transpose(0, 1) for name, g in gradients.items()}


def one_by_one(part: Part) -> dict[str, Tensor]:
    """The same by a plain loop over examples and columns; the obvious twin."""
    rows = []
    for n in range(len(part.batch)):
        outputs = part.model(part.batch.part(slice(n, n + 1)).copied_inputs())
        weights = list(part.parameters.values())
        rows.append(
            [
                torch.autograd.grad(outputs, weights, column[n : n + 1], retain_graph=True, materialize_grads=True)
                for column in part.cotangents
            ]
        )
    return {
        name: torch.stack([torch.stack([row[v][i] for row in rows]) for v in range(len(part.cotangents))])
        for i, name in enumerate(part.parameters)
    }
