"""What autograd knows of a forward pass: its operations, and whether the data may decide where they put rows."""

from collections import Counter
from dataclasses import dataclass

from torch import Tensor
from torch.autograd.graph import Node

from cl_fisher.error import InputError
from cl_fisher.fisher.place import name_of, stay


@dataclass(frozen=True)
class Graph:
    """Of some outputs [N, ..., C]."""

    nodes: frozenset[Node]
    n_uses: Counter[int]
    """How many operations use each parameter, by id."""
    form: int | None
    """The same for passes that put each row in the same place; None where the data may decide where."""


def graph_of(outputs: Tensor) -> Graph:
    """The graph behind outputs; its form is of the names of operations and of how they hang together."""
    assert outputs.grad_fn is not None
    todo = [outputs.grad_fn]
    number = {outputs.grad_fn: 0}
    n_uses = Counter[int]()
    form: list[object] = []
    while todo:
        node = todo.pop()
        name = name_of(node)
        if name == "CheckpointFunction":
            raise InputError("checkpoint(use_reentrant=True) hides its parameters: choose use_reentrant=False")
        form.append(name)
        for child, _ in node.next_functions:
            if child is None:
                form.append(None)
                continue
            if child not in number:
                number[child] = len(number)
                todo.append(child)
            form.append(number[child])
            if hasattr(child, "variable"):
                n_uses[id(child.variable)] += 1
    return Graph(frozenset(number), n_uses, hash(tuple(form)) if len(outputs) > 1 and stay(outputs) else None)
