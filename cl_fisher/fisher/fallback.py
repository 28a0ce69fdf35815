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
    """Gradients [v, n, *shape] of cotangents [V, N, C] times outputs, in parts of about `budget` bytes.

    Tensors among the inputs whose first dimension is N are taken apart, everything else is every example's.
    """
    n_columns, n_examples, _ = cotangents.shape
    affordable = budget // max(1, 3 * sum(p.numel() * p.element_size() for p in parameters.values()))
    size, columns = max(1, affordable // n_columns), max(1, min(affordable, n_columns))
    for start in range(0, n_examples, size):
        part = slice(start, min(start + size, n_examples))
        for some in cotangents[:, part].split(columns):
            try:
                yield _by_vmap(model, inputs, part, n_examples, some, parameters)
            except torch.OutOfMemoryError:
                raise
            except (RuntimeError, NotImplementedError, ValueError) as error:
                reason = str(error).strip().splitlines()[0]
                warnings.warn(f"Fisher example by example, slowly: vmap cannot do this model ({reason})", stacklevel=2)
                yield one_by_one(model, inputs, part, n_examples, some, parameters)


def _by_vmap(
    model: nn.Module,
    inputs: Any,
    part: slice,
    n_examples: int,
    cotangents: Tensor,
    parameters: Mapping[str, nn.Parameter],
) -> dict[str, Tensor]:
    examples = taken(inputs, part, n_examples)
    apart = tree_map(lambda t: 0 if _per_example(t, part.stop - part.start) else None, examples)
    whole = tree_map(lambda t: not _per_example(t, n_examples), inputs)

    def of_one(example: Any, columns: Tensor) -> dict[str, Tensor]:
        def outputs(values: dict[str, Tensor]) -> Tensor:
            batch = tree_map(lambda t, alone: t if alone else t[None].clone(), example, whole)
            return functional_call(model, values, (batch,))[0]

        pull = vjp(outputs, {name: p.detach() for name, p in parameters.items()})[1]
        return vmap(lambda column: pull(column)[0])(columns)

    gradients = vmap(of_one, in_dims=(apart, 1))(examples, cotangents)
    return {name: g.transpose(0, 1) for name, g in gradients.items()}


def one_by_one(
    model: nn.Module,
    inputs: Any,
    part: slice,
    n_examples: int,
    cotangents: Tensor,
    parameters: Mapping[str, nn.Parameter],
) -> dict[str, Tensor]:
    """The same by a plain loop over examples and columns; the obvious twin."""
    rows = []
    for n in range(part.start, part.stop):
        outputs = model(taken(inputs, slice(n, n + 1), n_examples))
        rows.append(
            [
                torch.autograd.grad(
                    outputs,
                    list(parameters.values()),
                    column[n - part.start : n - part.start + 1],
                    retain_graph=True,
                    materialize_grads=True,
                )
                for column in cotangents
            ]
        )
    return {
        name: torch.stack([torch.stack([row[v][i] for row in rows]) for v in range(len(cotangents))])
        for i, name in enumerate(parameters)
    }


def taken(inputs: Any, part: slice, n_examples: int) -> Any:
    """A copy of the inputs of some examples: the model may change what it is given in place."""
    return tree_map(
        lambda t: (t[part] if _per_example(t, n_examples) else t).clone() if isinstance(t, Tensor) else t, inputs
    )


def _per_example(leaf: Any, n_examples: int) -> bool:
    return isinstance(leaf, Tensor) and leaf.dim() > 0 and len(leaf) == n_examples
