"""The Fisher of a network: what can be asked for, and the loop over data that answers."""

import copy
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any

from torch import nn

from cl_fisher.bounds import Count, Index, checked
from cl_fisher.error import InputError
from cl_fisher.fisher.batches import Batch, read, regrouped
from cl_fisher.fisher.estimator.argmax import Argmax
from cl_fisher.fisher.estimator.empirical import Empirical
from cl_fisher.fisher.estimator.estimator import Estimator
from cl_fisher.fisher.estimator.exact import Exact
from cl_fisher.fisher.estimator.monte_carlo import MonteCarlo
from cl_fisher.fisher.estimator.signs import Signs
from cl_fisher.fisher.estimator.stratified import Stratified
from cl_fisher.fisher.importance import Importance
from cl_fisher.fisher.likelihood import LIKELIHOODS, Likelihood
from cl_fisher.fisher.one_pass import Pass, Question
from cl_fisher.fisher.processes import Processes
from cl_fisher.fisher.progress import Bar, Progress
from cl_fisher.fisher.structure.block_diagonal import BlockDiagonalStructure
from cl_fisher.fisher.structure.dense import DenseStructure
from cl_fisher.fisher.structure.diagonal import DiagonalStructure
from cl_fisher.fisher.structure.identity import IdentityStructure
from cl_fisher.fisher.structure.low_rank import LowRankStructure
from cl_fisher.fisher.structure.matrix import FisherMatrix
from cl_fisher.fisher.structure.structure import Accumulator, Structure
from cl_fisher.fisher.together import check_together
from cl_fisher.fisher.undisturbed import undisturbed

ESTIMATORS: Mapping[str, type[Estimator]] = {
    "exact": Exact,
    "monte_carlo": MonteCarlo,
    "signs": Signs,
    "stratified": Stratified,
    "empirical": Empirical,
    "argmax": Argmax,
}
STRUCTURES: Mapping[str, type[Structure]] = {
    "diagonal": DiagonalStructure,
    "identity": IdentityStructure,
    "dense": DenseStructure,
    "block_diagonal": BlockDiagonalStructure,
    "low_rank": LowRankStructure,
}

_BYTES = 2**30  # that a piece of a batch may take


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
    distributed: bool = False,
    progress: bool | Progress = False,
) -> FisherMatrix:
    """Estimate the Fisher information matrix of a network's trainable parameters.

    F = mean over examples of J^T S S^T J, in evaluation mode: the mean over examples, whatever the batch size. The
    model is left as it was found: modes, buffers, hooks, gradients and random state.

    Args:
        model: maps inputs to outputs [N, C] (logits for "categorical"), each row from its own example only.
        batches: (inputs, targets) or (inputs, targets, index), any number of times, on any device; examples first.
            Structures and samplings that read them twice (`ekfac`, importance) need more than an iterator.
        likelihood: "categorical", or an object.
        estimator: a name of `ESTIMATORS`, or an object: which output cotangents S.
        structure: a name of `STRUCTURES`, or an object: what is kept of the matrix.
        classes: the outputs that are active, in the order in which the likelihood sees them; all if None. Targets
            are output indices and must be among them.
        samples: how many examples; all if None.
        sampling: "uniform": examples are taken as they come until there are `samples`, so shuffle them; "importance":
            of all examples `samples` are drawn, by how uncertain the network is about them (see `Importance`).
        seed: of what an estimator draws, with the examples' indices (else their positions in the stream).
        distributed: each process of torch.distributed has its own share of the examples (`samples` of them), and all
            get the Fisher of them together. Without indices, position i of process r counts as i * processes + r.
        progress: True for a bar on standard error, or a function of (examples done, all or None).

    Returns:
        A Fisher matrix, with `info` about its making.

    Raises:
        InputError: no examples, unknown names, targets outside the active classes, outputs that are not [N, C],
            an estimator and a structure that do not go together.
    """
    likelihood_ = named(likelihood, Likelihood, LIKELIHOODS, "likelihood")
    estimator_ = named(estimator, Estimator, ESTIMATORS, "fisher/estimator")
    structure_ = named(structure, Structure, STRUCTURES, "fisher/structure")
    check_together(
        _name(estimator_, ESTIMATORS),
        estimator_.batch is not None,
        _name(structure_, STRUCTURES),
        structure_.takes_groups,
        sampling,
        samples,
    )
    processes = Processes(distributed)
    with undisturbed(model):
        model = _precise(model)
        trainable = _trainable(model)
        accumulator = structure_.accumulator(model, trainable)
        question = Question(model, trainable, likelihood_, estimator_, _class_list(classes), seed, _BYTES)
        stream = _Stream(batches, question, samples, sampling, processes, _reporter(progress))
        if accumulator.reads:
            _run(stream, Pass(question, [accumulator]), accumulator, processes)
        info = {
            "estimator": _name(estimator_, ESTIMATORS),
            "structure": _name(structure_, STRUCTURES),
            "likelihood": _name(likelihood_, LIKELIHOODS),
            "samples": stream.n_looked_at,
            "sampling": sampling,
            "seed": seed,
        }
        return accumulator.finish(stream.n_examples, info)


class _Stream:
    """The examples to look at, as often as they are asked for."""

    def __init__(
        self,
        batches: Iterable[Sequence[Any]],
        question: Question,
        samples: int | None,
        sampling: str,
        processes: Processes,
        report: Progress,
    ) -> None:
        self._batches, self._question, self._processes, self._report = batches, question, processes, report
        self._samples = samples if sampling == "uniform" else None
        self._readings = 0
        self.n_examples = 0.0
        self.n_looked_at = 0
        self._importance: Importance | None = None
        if sampling == "importance":
            assert samples is not None
            self._importance = Importance(question, self._read(), samples, processes)

    def feed(self, work: Pass) -> None:
        """One pass; afterwards `n_examples` is what sums are to be divided by, over all processes."""
        total = self._total()
        looked_at, counted = 0, 0
        for batch in self._chosen():
            counted += work.add(batch)
            looked_at += len(batch)
            self._report(looked_at, total)
        if total is None or looked_at < total:
            self._report(looked_at, looked_at)
        self.n_looked_at = int(self._processes.total(looked_at))
        self.n_examples = self._processes.total(counted)
        if self.n_examples == 0:
            raise InputError("the Fisher was asked for over no examples at all: `batches` is empty or used up")
        if self._importance is not None:
            self.n_examples = self._importance.n_examples

    def _chosen(self) -> Iterator[Batch]:
        read_now = self._read()
        if self._importance is not None:
            return self._importance.chosen(read_now)
        size = self._question.estimator.batch
        return read_now if size is None else regrouped(read_now, size)

    def _read(self) -> Iterator[Batch]:
        self._readings += 1
        if self._readings > 1 and isinstance(self._batches, Iterator):
            raise InputError(
                "the examples are needed twice (importance sampling, ekfac), but `batches` is an iterator that is used "
                "up by one reading: give a list or a DataLoader"
            )
        like = next(iter(self._question.trainable.values()))
        return read(self._batches, like, self._samples, self._processes.rank, self._processes.count)

    def _total(self) -> int | None:
        """How many examples there will be, if that can be told."""
        dataset = getattr(self._batches, "dataset", None)
        n = len(dataset) if isinstance(dataset, Sized) else None
        if isinstance(self._batches, Sequence):
            n = sum(len(batch[1]) for batch in self._batches if len(batch) > 1)
        return n if n is None or self._samples is None else min(n, self._samples)


def _run(stream: _Stream, work: Pass, accumulator: Accumulator, processes: Processes) -> None:
    """As many passes as the accumulator wants."""
    while True:
        stream.feed(work)
        processes.add_up_(accumulator.sums())
        if not accumulator.next_pass(stream.n_examples):
            return


def _reporter(progress: bool | Progress) -> Progress:
    if callable(progress):
        return progress
    return Bar() if progress else _silent


def _silent(done: int, total: int | None) -> None:
    """Report nothing."""


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
