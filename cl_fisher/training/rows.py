"""The output layer's rows that stand for earlier tasks' classes, and what may move them."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from cl_fisher.benchmark.rule import OldRows
from cl_fisher.error import InputError
from cl_fisher.model.output_layer import output_layer


class OutputRows:
    """Keeps the penalty off the old rows ("free"), or everything ("frozen"); "penalised" does nothing.

    Args:
        model: the network; its output layer is the last one with `n_outputs` rows.
        n_outputs: output units of all tasks together.
        policy: what holds for old rows.

    Raises:
        InputError: the network has no such layer.
    """

    def __init__(self, model: nn.Module, n_outputs: int, policy: OldRows) -> None:
        self.policy = policy
        self.old = torch.empty(0, dtype=torch.int64)
        self._parameters: list[nn.Parameter] = []
        self._kept: list[Tensor] = []
        if policy != "penalised":
            self._parameters = _output_layer(model, n_outputs)

    def begin(self, old: Iterable[int]) -> None:
        """Say which rows are old from now on; where they stand is what frozen ones stay at."""
        self.old = torch.tensor(sorted(old), dtype=torch.int64)
        self._kept = [p.detach()[self.old.to(p.device)].clone() for p in self._parameters]

    @contextmanager
    def spared(self, of: str) -> Iterator[None]:
        """What happens within to old rows of `of` ("weights" or "grad") is undone if they are free of the penalty.

        Whatever it is: a strategy for which that is more than a penalty refuses free rows (`OLD_ROWS` in its file).
        """
        if self.policy != "free" or len(self.old) == 0:
            yield
            return
        tensors = [p.data if of == "weights" else p.grad for p in self._parameters]
        before = [None if t is None else t[self.old.to(t.device)].clone() for t in tensors]
        yield
        for p, kept in zip(self._parameters, before, strict=True):
            now = p.data if of == "weights" else p.grad
            if now is not None:
                now[self.old.to(now.device)] = 0.0 if kept is None else kept

    @torch.no_grad()
    def restore(self) -> None:
        """Put frozen rows back, after a step of the optimizer."""
        if self.policy == "frozen" and len(self.old):
            for p, kept in zip(self._parameters, self._kept, strict=True):
                p[self.old.to(p.device)] = kept.to(p)


def _output_layer(model: nn.Module, n_outputs: int) -> list[nn.Parameter]:
    layer = output_layer(model, n_outputs)
    if layer is None:
        raise InputError(f"scenario.old_rows needs a network that ends in a linear layer with {n_outputs} outputs")
    return list(layer.parameters())
