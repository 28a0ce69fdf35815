"""One pass over data: from batches to what an accumulator is given."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from cl_fisher.fisher.batches import Batch, pieces
from cl_fisher.fisher.capture import Capture, Captured, at_edges, at_uses
from cl_fisher.fisher.determinism import check_determined
from cl_fisher.fisher.draws import Draws
from cl_fisher.fisher.estimator.estimator import Estimator
from cl_fisher.fisher.fallback import PerExample
from cl_fisher.fisher.likelihood.active import over_all_outputs
from cl_fisher.fisher.likelihood.likelihood import Likelihood
from cl_fisher.fisher.rule.rule import Call, LayerUse
from cl_fisher.fisher.structure.structure import Accumulator

_FIRST = 16  # examples on which it is found out what rules may be trusted: several passes, so on few


@dataclass(frozen=True)
class Question:
    """Which Fisher of which network is asked for."""

    model: nn.Module
    trainable: Mapping[str, nn.Parameter]
    likelihood: Likelihood
    estimator: Estimator
    classes: Sequence[int] | None
    seed: int
    budget: int
    """Bytes: a quarter may be activations of a piece of a batch, another one gradients that are held at a time."""

    def columns(self, outputs: Tensor, batch: Batch) -> Iterator[Tensor]:
        """Cotangents [v, *outputs.shape], some columns at a time, zero where an output is not active."""
        precise = outputs.detach().float() if outputs.dtype.itemsize < 4 else outputs.detach()
        active, targets = self.likelihood.select(precise, batch.targets, self.classes)
        size = max(1, self.budget // (8 * outputs.numel() * outputs.element_size()))
        for some in self.estimator.parts(self.likelihood, active, targets, Draws(self.seed, batch.index), size):
            columns = over_all_outputs(some, outputs, self.classes)
            if batch.weights is not None:
                columns = columns * batch.weights.sqrt().to(columns).reshape(-1, *[1] * (outputs.dim() - 1))
            yield columns

    def sizes(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Sum over columns of |S_n|^2, [N], weights not counted."""
        columns = self.columns(outputs, replace(batch, weights=None))
        return torch.stack([c.square().sum(0).flatten(1).sum(1) for c in columns]).sum(0)


class Pass:
    """Feeds accumulators; what it finds out about the network's layers serves all passes."""

    def __init__(self, question: Question, accumulators: Sequence[Accumulator]) -> None:
        self._question = question
        self._keepers = [a for a in accumulators if a.keeps_data]
        self._accumulators = [a for a in accumulators if not a.keeps_data]
        self._capture = Capture(question.model, question.trainable)
        self._per_example_gradients = PerExample(question.model)
        self._joint = any(a.joint for a in accumulators)
        self._bytes_per_example: float | None = None
        self._determined = False

    def add(self, batch: Batch) -> int:
        """Accumulate a batch; returns by how much the number of examples (or of groups) grows."""
        if self._question.estimator.batch is not None:
            self._add_group(batch)
            return 1
        first = 0 if self._determined or len(batch) <= 2 * _FIRST else _FIRST
        for part in (batch.part(slice(0, first)), batch.part(slice(first, None))) if first else (batch,):
            for piece in pieces(part, self._largest_piece(part)):
                self._add_piece(piece)
        return len(batch)

    def _add_piece(self, batch: Batch) -> None:
        """By a rule where there is one that is right about this model, else by the fallback."""
        captured = self._capture.forward(batch.copied_inputs(), len(batch))
        if not self._determined:
            check_determined(self._question.model, batch, captured.outputs)
            self._determined = True
        taken = [] if self._joint else [u for u in captured.uses if all(a.takes(u) for a in self._accumulators)]
        for use in taken:
            for accumulator in self._accumulators:
                accumulator.add_inputs(use, batch.weights)
        for columns in self._question.columns(captured.outputs, batch):
            for accumulator in self._keepers:
                accumulator.add_batch(batch, columns)
            if self._accumulators:
                self._add_columns(batch, captured, taken, columns)

    def _add_columns(self, batch: Batch, captured: Captured, taken: list[LayerUse], columns: Tensor) -> None:
        outputs, budget = captured.outputs, self._question.budget
        if taken:
            held = sum(math.prod(c.shape) for use in taken for c in use.calls) * outputs.element_size()
            for some in columns.split(max(1, budget // (4 * held))):
                gradients = [at_uses(taken, outputs, column) for column in some]
                for i, use in enumerate(taken):
                    for accumulator in self._accumulators:
                        accumulator.add_layer(use, [g[i] for g in gradients])
        covered = {name for use in taken for name in use.names.values()}
        if not self._joint:  # their gradient is zero, which adds nothing
            covered |= captured.unused
        others = [call for use in captured.uses if use not in taken for call in use.calls] + captured.tied
        for part in self._per_example(batch, outputs, columns, others, covered):
            for accumulator in self._accumulators:
                accumulator.add_gradients(part)

    def _per_example(
        self, batch: Batch, outputs: Tensor, columns: Tensor, calls: list[Call], covered: set[str]
    ) -> Iterator[dict[str, Tensor]]:
        """Gradients [v, n, *shape] of all parameters that are not `covered`, in parts that fit the budget."""
        wanted = {name: p for name, p in self._question.trainable.items() if name not in covered}
        by_rule = {name for call in calls for name in call.names.values()}
        rest = {name: p for name, p in wanted.items() if name not in by_rule}
        budget = self._question.budget // 4
        if not calls:
            if rest:
                yield from self._per_example_gradients(batch, columns, rest, budget)
            return
        size = max(1, budget // (3 * sum(p.numel() * p.element_size() for p in wanted.values())))
        for v in range(len(columns)):
            gradients = at_edges(calls, outputs, columns[v])
            for start in range(0, len(batch), size):
                which = slice(start, start + size)
                part = _by_rules(calls, gradients, which)
                if not rest or not self._joint:
                    yield part
                    continue
                few = columns[v : v + 1, which]
                for others in self._per_example_gradients(batch.part(which), few, rest, 2**62):
                    yield {name: (part | others)[name] for name in wanted}
        if rest and not self._joint:
            yield from self._per_example_gradients(batch, columns, rest, budget)

    def _add_group(self, batch: Batch) -> None:
        """The square of one gradient of all examples together."""
        question = self._question
        outputs = question.model(batch.copied_inputs())
        names, weights = list(question.trainable), list(question.trainable.values())
        gradients: list[Tensor] = [torch.zeros_like(w) for w in weights]
        for columns in question.columns(outputs, batch):
            cotangent = question.estimator.together(columns)
            found = torch.autograd.grad(outputs, weights, cotangent, retain_graph=True, materialize_grads=True)
            gradients = [a + b for a, b in zip(gradients, found, strict=True)]
        for accumulator in self._accumulators:
            accumulator.add_gradients({name: g[None, None] for name, g in zip(names, gradients, strict=True)})

    def _bytes_of_one(self, few: Batch) -> float:
        """Of one example; where they cannot be seen, as many as let a few examples pass at a time."""
        try:
            return _kept_bytes(self._question.model, few) / len(few)
        except RuntimeError as error:
            if "saved tensor hooks" not in str(error):  # which derivatives by torch.func, inside a model, do not take
                raise
            return self._question.budget / 4 / _FIRST

    def _largest_piece(self, batch: Batch) -> int:
        """So many examples that what a forward pass keeps for the backward pass fits the budget."""
        if self._bytes_per_example is None:
            self._bytes_per_example = self._bytes_of_one(batch.part(slice(0, 4)))
        return max(1, int(self._question.budget / 4 / max(1.0, self._bytes_per_example)))


def _by_rules(calls: Sequence[Call], gradients: Sequence[Tensor], which: slice) -> dict[str, Tensor]:
    """Per-example gradients [1, n, *shape] of some examples, summed over the calls of each parameter."""
    total: dict[str, Tensor] = {}
    for call, gradient in zip(calls, gradients, strict=True):
        for local, g in call.rule.per_example(call.module, call.inputs[which], gradient[which]).items():
            if (name := call.names.get(local)) is not None:
                total[name] = total[name] + g.detach() if name in total else g.detach()
    return {name: g[None] for name, g in total.items()}


def _kept_bytes(model: nn.Module, batch: Batch) -> int:
    """Memory that a forward pass keeps for its backward pass, parameters not counted."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        outputs = model(batch.copied_inputs())
    del outputs
    return sum(kept.values())
