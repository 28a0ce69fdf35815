"""The one loop over data in which every Fisher is estimated."""

import copy
import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from cl_fisher.bounds import Count, Index, checked
from cl_fisher.error import InputError
from cl_fisher.fisher import capture
from cl_fisher.fisher.batches import limited
from cl_fisher.fisher.draws import Draws
from cl_fisher.fisher.estimator.argmax import Argmax
from cl_fisher.fisher.estimator.batched_empirical import BatchedEmpirical
from cl_fisher.fisher.estimator.empirical import Empirical
from cl_fisher.fisher.estimator.estimator import Estimator
from cl_fisher.fisher.estimator.exact import Exact
from cl_fisher.fisher.estimator.monte_carlo import MonteCarlo
from cl_fisher.fisher.estimator.signs import Signs
from cl_fisher.fisher.estimator.stratified import Stratified
from cl_fisher.fisher.fallback import per_example_gradients, taken
from cl_fisher.fisher.likelihood.active import over_all_outputs
from cl_fisher.fisher.likelihood.bernoulli import Bernoulli
from cl_fisher.fisher.likelihood.categorical import Categorical
from cl_fisher.fisher.likelihood.gaussian import Gaussian
from cl_fisher.fisher.likelihood.likelihood import Likelihood
from cl_fisher.fisher.structure.diagonal import DiagonalStructure
from cl_fisher.fisher.structure.matrix import FisherMatrix
from cl_fisher.fisher.structure.structure import Accumulator, Structure
from cl_fisher.fisher.undisturbed import undisturbed

ESTIMATORS: Mapping[str, type[Estimator]] = {
    "exact": Exact,
    "monte_carlo": MonteCarlo,
    "signs": Signs,
    "stratified": Stratified,
    "empirical": Empirical,
    "argmax": Argmax,
    "batched_empirical": BatchedEmpirical,
}
LIKELIHOODS: Mapping[str, type[Likelihood]] = {"categorical": Categorical, "bernoulli": Bernoulli, "gaussian": Gaussian}
STRUCTURES: Mapping[str, type[Structure]] = {"diagonal": DiagonalStructure}

_BYTES = 256 * 2**20  # of gradients that are held at once


@checked
def estimate_fisher(
    model: nn.Module,
    batches: Iterable[Sequence[Any]],
    likelihood: str | Likelihood = "categorical",
    estimator: str | Estimator = "exact",
    structure: str | Structure = "diagonal",
    *,
    classes: Sequence[int] | None = None,
    samples: Count | None = None,
    sampling: str = "uniform",
    seed: Index = 0,
) -> FisherMatrix:
    """Estimate the Fisher information matrix of a network's trainable parameters.

    F = mean over examples of J^T S S^T J, in evaluation mode: the mean over examples, whatever the batch size. The
    model is left as it was found: modes, buffers, hooks, gradients and random state.

    Args:
        model: maps inputs to outputs [N, C] (logits for "categorical"), each row from its own example only.
        batches: (inputs, targets) or (inputs, targets, index), any number of times, on any device; examples first.
        likelihood: "categorical", or an object.
        estimator: a name of `ESTIMATORS`, or an object: which output cotangents S.
        structure: "diagonal", or an object: what is kept of the matrix.
        classes: the outputs that are active, in the order in which the likelihood sees them; all if None. Targets
            are output indices and must be among them.
        samples: stop after so many examples; all if None.
        sampling: "uniform": examples are taken as they come, so shuffle them if `samples` is given.
        seed: of what an estimator draws, with the examples' indices (else their positions in the stream).

    Returns:
        A Fisher matrix, with `info` about its making.

    Raises:
        InputError: no examples, unknown names, targets outside the active classes, outputs that are not [N, C].
    """
    likelihood_ = named(likelihood, Likelihood, LIKELIHOODS, "likelihood")
    estimator_ = named(estimator, Estimator, ESTIMATORS, "fisher/estimator")
    structure_ = named(structure, Structure, STRUCTURES, "fisher/structure")
    if sampling != "uniform":
        raise InputError(f"fisher.sampling={sampling} is unknown: it must be uniform")
    n = 0
    with undisturbed(model):
        model = _precise(model)
        trainable = _trainable(model)
        accumulator = structure_.accumulator(model, trainable)
        work = _Pass(model, trainable, likelihood_, estimator_, _class_list(classes), accumulator)
        for inputs, targets, index in limited(batches, samples, next(iter(trainable.values()))):
            work.add(inputs, targets, Draws(seed, index))
            n += len(targets)
    if n == 0:
        raise InputError("the Fisher was asked for over no examples at all: `batches` is empty or used up")
    info = {
        "estimator": _name(estimator_, ESTIMATORS),
        "structure": _name(structure_, STRUCTURES),
        "likelihood": _name(likelihood_, LIKELIHOODS),
        "samples": n,
        "seed": seed,
    }
    return accumulator.finish(n, info)


@dataclass
class _Pass:
    """One pass over data into an accumulator."""

    model: nn.Module
    trainable: Mapping[str, nn.Parameter]
    likelihood: Likelihood
    estimator: Estimator
    classes: Sequence[int] | None
    accumulator: Accumulator
    vetted: set[str] = field(default_factory=set)
    distrusted: set[str] = field(default_factory=set)

    def add(self, inputs: Any, targets: Tensor, draws: Draws) -> None:
        """Accumulate a batch: by a rule where there is one that is right about this model, else by the fallback."""
        outputs, uses = capture.forward(self.model, taken(inputs, slice(None), -1), self.trainable)
        columns = self._columns(outputs.detach(), targets, draws)
        if capture.names_of(uses) - self.vetted:
            self.distrusted |= capture.distrusted(uses, outputs, self.trainable)
            if len(outputs) > 1:  # in a batch of one example nothing can mix
                self.vetted |= capture.names_of(uses)
        uses = [use for use in uses if not self.distrusted & set(use.names.values())]
        if uses:
            per_column = len(outputs) * sum(math.prod(use.shape[1:]) for use in uses) * outputs.element_size()
            for some in columns.split(max(1, _BYTES // per_column)):
                gradients = [capture.at_edges(uses, outputs, column) for column in some]
                for i, use in enumerate(uses):
                    self.accumulator.add_layer(use, [g[i] for g in gradients])
        covered = capture.names_of(uses)
        if rest := {name: p for name, p in self.trainable.items() if name not in covered}:
            for part in per_example_gradients(self.model, inputs, columns, rest, _BYTES):
                self.accumulator.add_gradients(part)

    def _columns(self, outputs: Tensor, targets: Tensor, draws: Draws) -> Tensor:
        """Cotangents [V, *outputs.shape], zero where an output is not active."""
        precise = outputs.float() if outputs.dtype.itemsize < 4 else outputs
        active, local = self.likelihood.select(precise, targets, self.classes)
        columns = self.estimator.columns(self.likelihood, active, local, draws)
        return over_all_outputs(columns, outputs, self.classes)


def _trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not trainable:
        raise InputError("no parameter of the model requires a gradient, so it has no Fisher")
    if complex_ := [name for name, p in trainable.items() if p.is_complex()]:
        raise InputError(f"{complex_[0]} is complex: the Fisher is for real parameters")
    return trainable


def _precise(model: nn.Module) -> nn.Module:
    """A float32 copy of a model with parameters of 16 bits, whose squared gradients would underflow."""
    if all(p.dtype.itemsize >= 4 for p in model.parameters()):
        return model
    return copy.deepcopy(model).float()


def _class_list(classes: Sequence[int] | None) -> list[int] | None:
    return None if classes is None else [operator.index(c) for c in classes]


def named(choice: Any, kind: type, table: Mapping[str, type], word: str) -> Any:
    """The object that a name stands for; an object is passed through."""
    if isinstance(choice, kind):
        return choice
    if choice not in table:
        raise InputError(f"{word}={choice} is unknown: choose from {', '.join(table)}")
    return table[choice]()


def _name(thing: object, table: Mapping[str, type]) -> str:
    return next((name for name, kind in table.items() if type(thing) is kind), type(thing).__name__)
