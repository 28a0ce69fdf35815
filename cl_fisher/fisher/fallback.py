"""Per-example gradients of any parameter of any model: slower than a rule, and right wherever autograd is."""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap
from torch.utils._pytree import tree_map

from cl_fisher.fisher.batches import Batch


@dataclass(frozen=True)
class Part:
    """Some of the examples of a batch, and some of the columns."""

    model: nn.Module
    batch: Batch
    cotangents: Tensor
    """[v, n, ..., C]: of these columns and examples."""
    parameters: Mapping[str, nn.Parameter]


def per_example_gradients(
    model: nn.Module, batch: Batch, cotangents: Tensor, parameters: Mapping[str, nn.Parameter], budget: int
) -> Iterator[dict[str, Tensor]]:
    """Gradients [v, n, *shape] of cotangents [V, N, ..., C] times outputs, in parts of about `budget` bytes."""
    n_columns = len(cotangents)
    affordable = budget // max(1, 3 * sum(p.numel() * p.element_size() for p in parameters.values()))
    size, columns = max(1, affordable // n_columns), max(1, min(affordable, n_columns))
    for start in range(0, len(batch), size):
        which = slice(start, start + size)
        for some in cotangents[:, which].split(columns):
            part = Part(model, batch.part(which), some, parameters)
            try:
                yield _by_vmap(part)
            except torch.OutOfMemoryError:
                raise
            except (RuntimeError, NotImplementedError, ValueError) as error:
                reason = str(error).strip().splitlines()[0]
                warnings.warn(f"Fisher example by example, slowly: vmap cannot do this model ({reason})", stacklevel=2)
                yield one_by_one(part)


def _by_vmap(part: Part) -> dict[str, Tensor]:
    apart = tree_map(lambda is_apart: 0 if is_apart else None, part.batch.apart)

    def of_one(example: Any, columns: Tensor) -> dict[str, Tensor]:
        def outputs(values: dict[str, Tensor]) -> Tensor:
            batch = tree_map(lambda t, is_apart: t[None].clone() if is_apart else t, example, part.batch.apart)
            return functional_call(part.model, values, (batch,))[0]

        pull = vjp(outputs, {name: p.detach() for name, p in part.parameters.items()})[1]
        return vmap(lambda column: pull(column)[0])(columns)

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
