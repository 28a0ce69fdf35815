"""One pass over data: from batches to what an accumulator is given."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from cl_fisher.error import InputError
from cl_fisher.fisher.batches import Batch, pieces
from cl_fisher.fisher.capture import Capture, Captured, at_edges, at_uses
from cl_fisher.fisher.draws import Draws
from cl_fisher.fisher.estimator.estimator import Estimator
from cl_fisher.fisher.fallback import per_example_gradients
from cl_fisher.fisher.likelihood import Likelihood
from cl_fisher.fisher.rule.rule import Call, LayerUse
from cl_fisher.fisher.structure.structure import Accumulator


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
    """Bytes that a piece of a batch may take: activations, and gradients at a time."""

    def columns(self, outputs: Tensor, batch: Batch) -> Iterator[Tensor]:
        """Cotangents [v, N, C] over all outputs, some columns at a time, zero where a class is not active."""
        targets = _checked(batch.targets, outputs)
        precise = outputs.detach().float() if outputs.dtype.itemsize < 4 else outputs.detach()
        draws = Draws(self.seed, batch.index)
        if (n_active := outputs.shape[1] if self.classes is None else len(self.classes)) < 2:
            raise InputError(f"{n_active} active output: a categorical likelihood needs two or more to choose from")
        if self.classes is None:
            some = self.estimator.columns(self.likelihood, precise, targets, draws).to(outputs)
        else:
            active = _active(self.classes, outputs)
            local = _local(self.classes, active, targets, outputs)
            part = self.estimator.columns(self.likelihood, precise[:, active], local, draws).to(outputs)
            some = part.new_zeros(len(part), *outputs.shape).index_copy_(2, active, part)
        if batch.weights is not None:
            some = some * batch.weights.sqrt().to(some).reshape(-1, *[1] * (outputs.dim() - 1))
        yield some

    def sizes(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Sum over columns of |S_n|^2, [N], weights not counted."""
        columns = self.columns(outputs, replace(batch, weights=None))
        return torch.stack([c.square().sum(0).flatten(1).sum(1) for c in columns]).sum(0)


class Pass:
    """Feeds accumulators; what it finds out about the network's layers serves all passes."""

    def __init__(self, question: Question, accumulators: Sequence[Accumulator]) -> None:
        self._question, self._accumulators = question, accumulators
        self._capture = Capture(question.model, question.trainable)
        self._joint = any(a.joint for a in accumulators)
        self._bytes_per_example: float | None = None

    def add(self, batch: Batch) -> int:
        """Accumulate a batch; returns by how much the number of examples (or of groups) grows."""
        if self._question.estimator.batch is not None:
            self._add_group(batch)
            return 1
        for piece in pieces(batch, self._largest_piece(batch)):
            self._add_piece(piece)
        return len(batch)

    def _add_piece(self, batch: Batch) -> None:
        """By a rule where there is one that is right about this model, else by the fallback."""
        captured = self._capture.forward(batch.copied_inputs(), len(batch))
        keeps = [a for a in self._accumulators if a.keeps_data]
        taken = [] if self._joint else [u for u in captured.uses if all(a.takes(u) for a in self._accumulators)]
        for use in taken:
            for accumulator in self._accumulators:
                accumulator.add_inputs(use, batch.weights)
        for columns in self._question.columns(captured.outputs, batch):
            for accumulator in keeps:
                accumulator.add_batch(batch.inputs, columns)
            if len(keeps) < len(self._accumulators):
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
                yield from per_example_gradients(self._question.model, batch, columns, rest, budget)
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
                for others in per_example_gradients(self._question.model, batch.part(which), few, rest, 2**62):
                    yield {name: (part | others)[name] for name in wanted}
        if rest and not self._joint:
            yield from per_example_gradients(self._question.model, batch, columns, rest, budget)

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

    def _largest_piece(self, batch: Batch) -> int:
        """So many examples that what a forward pass keeps for the backward pass fits the budget."""
        if self._bytes_per_example is None:
            few = batch.part(slice(0, 4))
            self._bytes_per_example = _kept_bytes(self._question.model, few) / len(few)
        return max(1, int(self._question.budget / max(1.0, self._bytes_per_example)))


def _by_rules(calls: Sequence[Call], gradients: Sequence[Tensor], which: slice) -> dict[str, Tensor]:
    """Per-example gradients [1, n, *shape] of some examples, summed over the calls of each parameter."""
    total: dict[str, Tensor] = {}
    for call, gradient in zip(calls, gradients, strict=True):
        for local, g in call.rule.per_example(call.module, call.inputs[which], gradient[which]).items():
            if (name := call.names.get(local)) is not None:
                total[name] = total[name] + g if name in total else g
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


def _active(classes: Sequence[int], outputs: Tensor) -> Tensor:
    n = outputs.shape[1]
    if len(set(classes)) != len(classes) or not classes or min(classes) < 0 or max(classes) >= n:
        raise InputError(f"classes={list(classes)}: distinct outputs from 0 to {n - 1} are wanted")
    return torch.tensor(list(classes), device=outputs.device)


def _local(classes: Sequence[int], active: Tensor, targets: Tensor, outputs: Tensor) -> Tensor:
    position = torch.full((outputs.shape[1],), -1, device=outputs.device)
    position[active] = torch.arange(len(active), device=outputs.device)
    local = position[targets]
    if bool((local < 0).any()):
        strangers = sorted(set(targets[local < 0].tolist()))
        raise InputError(f"targets {strangers} are not among the active classes {list(classes)}")
    return local


def _checked(targets: Tensor, outputs: Tensor) -> Tensor:
    if outputs.dim() != 2:
        shape = tuple(outputs.shape)
        raise InputError(
            f"the model returned a tensor of shape {shape}; the Fisher needs outputs of shape [examples, classes]"
        )
    n, n_classes = outputs.shape
    if targets.is_floating_point() or targets.is_complex():
        raise InputError(f"targets must be a tensor of class indices, not {targets.dtype}")
    if targets.dim() != 1 or len(targets) != n:
        raise InputError(
            f"targets of shape {tuple(targets.shape)} do not fit outputs of shape {tuple(outputs.shape)}: one class "
            "index per example is wanted"
        )
    if not 0 <= int(targets.min()) <= int(targets.max()) < n_classes:
        raise InputError(f"targets lie in {int(targets.min())}..{int(targets.max())}, outputs in 0..{n_classes - 1}")
    return targets.long()
