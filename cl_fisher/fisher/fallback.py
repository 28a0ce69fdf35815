"""Per-example gradients of any parameter of any model: slower than a rule, and right wherever autograd is."""

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap
from torch.utils._pytree import tree_map


def per_example_gradients(
    model: nn.Module, inputs: Any, cotangents: Tensor, parameters: Mapping[str, nn.Parameter], budget: int
) -> Iterator[dict[str, Tensor]]:
    """Gradients [V, n, *shape] of cotangents [V, N, C] times outputs, for parts of n examples within `budget` bytes."""
    per_example = len(cotangents) * sum(p.numel() * p.element_size() for p in parameters.values())
    size = max(1, min(cotangents.shape[1], budget // max(1, 3 * per_example)))
    for start in range(0, cotangents.shape[1], size):
        part = slice(start, start + size)
        some = tree_map(lambda t: t[part] if isinstance(t, Tensor) else t, inputs)  # noqa: B023
        try:
            yield _by_vmap(model, some, cotangents[:, part], parameters)
        except (RuntimeError, NotImplementedError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            reason = str(error).strip().splitlines()[0]
            warnings.warn(f"Fisher example by example, slowly: vmap cannot do this model ({reason})", stacklevel=2)
            yield one_by_one(model, some, cotangents[:, part], parameters)


def _by_vmap(
    model: nn.Module, inputs: Any, cotangents: Tensor, parameters: Mapping[str, nn.Parameter]
) -> dict[str, Tensor]:
    def of_one(example: Any, columns: Tensor) -> dict[str, Tensor]:
        def outputs(values: dict[str, Tensor]) -> Tensor:
            batch = tree_map(lambda t: t[None] if isinstance(t, Tensor) else t, example)
            return functional_call(model, values, (batch,))[0]

        pull = vjp(outputs, {name: p.detach() for name, p in parameters.items()})[1]
        return vmap(lambda column: pull(column)[0])(columns)

    gradients = vmap(of_one, in_dims=(0, 1))(inputs, cotangents)
    return {name: g.transpose(0, 1) for name, g in gradients.items()}


def one_by_one(
    model: nn.Module, inputs: Any, cotangents: Tensor, parameters: Mapping[str, nn.Parameter]
) -> dict[str, Tensor]:
    """The same by a plain loop over examples and columns; the obvious twin."""
    rows = []
    for n in range(cotangents.shape[1]):
        one = tree_map(lambda t: t[n : n + 1] if isinstance(t, Tensor) else t, inputs)  # noqa: B023
        outputs = model(one)
        columns = [
            torch.autograd.grad(
                outputs, list(parameters.values()), column[n : n + 1], retain_graph=True, allow_unused=True
            )
            for column in cotangents
        ]
        rows.append(
            [
                [torch.zeros_like(p) if g is None else g for g, p in zip(c, parameters.values(), strict=True)]
                for c in columns
            ]
        )
    return {
        name: torch.stack([torch.stack([row[v][i] for row in rows]) for v in range(len(cotangents))])
        for i, name in enumerate(parameters)
    }
