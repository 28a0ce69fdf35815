"""Per-example gradients of any parameter of any model: slower than a rule, and right wherever autograd is."""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap
from torch.utils._pytree import tree_map


@dataclass(frozen=True)
class Part:
    """Some of the examples of a batch, and some of the columns."""

    model: nn.Module
    inputs: Any
    """Of the whole batch of `n_examples`."""
    n_examples: int
    which: slice
    cotangents: Tensor
    """[v, n, ..., C]: of these columns and examples."""
    parameters: Mapping[str, nn.Parameter]


def per_example_gradients(
    model: nn.Module, inputs: Any, cotangents: Tensor, parameters: Mapping[str, nn.Parameter], budget: int
) -> Iterator[dict[str, Tensor]]:
    """Gradients [v, n, *shape] of cotangents [V, N, ..., C] times outputs, in parts of about `budget` bytes.

    Tensors among the inputs whose first dimension is N are taken apart, everything else is every example's.
    """
    n_columns, n_examples = cotangents.shape[:2]
    affordable = budget // max(1, 3 * sum(p.numel() * p.element_size() for p in parameters.values()))
    size, columns = max(1, affordable // n_columns), max(1, min(affordable, n_columns))
    for start in range(0, n_examples, size):
        which = slice(start, min(start + size, n_examples))
        for some in cotangents[:, which].split(columns):
            part = Part(model, inputs, n_examples, which, some, parameters)
            try:
                yield _by_vmap(part)
            except torch.OutOfMemoryError:
                raise
            except (RuntimeError, NotImplementedError, ValueError) as error:
                reason = str(error).strip().splitlines()[0]
                warnings.warn(f"Fisher example by example, slowly: vmap cannot do this model ({reason})", stacklevel=2)
                yield one_by_one(part)


def _by_vmap(part: Part) -> dict[str, Tensor]:
    examples = taken(part.inputs, part.which, part.n_examples)
    shared = tree_map(lambda t: not _per_example(t, part.n_examples), part.inputs)
    apart = tree_map(lambda is_shared: None if is_shared else 0, shared)

    def of_one(example: Any, columns: Tensor) -> dict[str, Tensor]:
        def outputs(values: dict[str, Tensor]) -> Tensor:
            batch = tree_map(lambda t, is_shared: t if is_shared else t[None].clone(), example, shared)
            return functional_call(part.model, values, (batch,))[0]

        pull = vjp(outputs, {name: p.detach() for name, p in part.parameters.items()})[1]
        return vmap(lambda column: pull(column)[0])(columns)

    gradients = vmap(of_one, in_dims=(apart, 1))(examples, part.cotangents)
    return {name: g.transpose(0, 1) for name, g in gradients.items()}


def one_by_one(part: Part) -> dict[str, Tensor]:
    """The same by a plain loop over examples and columns; the obvious twin."""
    rows = []
    for i, n in enumerate(range(part.which.start, part.which.stop)):
        outputs = part.model(taken(part.inputs, slice(n, n + 1), part.n_examples))
        weights = list(part.parameters.values())
        rows.append(
            [
                torch.autograd.grad(outputs, weights, column[i : i + 1], retain_graph=True, materialize_grads=True)
                for column in part.cotangents
            ]
        )
    return {
        name: torch.stack([torch.stack([row[v][i] for row in rows]) for v in range(len(part.cotangents))])
        for i, name in enumerate(part.parameters)
    }


def taken(inputs: Any, part: slice, n_examples: int) -> Any:
    """A copy of the inputs of some examples: the model may change what it is given in place."""
    return tree_map(
        lambda t: (t[part] if _per_example(t, n_examples) else t).clone() if isinstance(t, Tensor) else t, inputs
    )


def _per_example(leaf: Any, n_examples: int) -> bool:
    return isinstance(leaf, Tensor) and leaf.dim() > 0 and len(leaf) == n_examples
