"""The Fisher of a network: what can be asked for, and the loop over data that answers."""

import operator
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn

from cl_fisher.bounds import Count, Index, UnitInterval, checked
from cl_fisher.error import InputError
from cl_fisher.fisher.check import self_check
from cl_fisher.fisher.estimator.argmax import Argmax
from cl_fisher.fisher.estimator.batched_empirical import BatchedEmpirical
from cl_fisher.fisher.estimator.empirical import Empirical
from cl_fisher.fisher.estimator.estimator import Estimator
from cl_fisher.fisher.estimator.exact import Exact
from cl_fisher.fisher.estimator.monte_carlo import MonteCarlo
from cl_fisher.fisher.estimator.signs import Signs
from cl_fisher.fisher.estimator.stratified import Stratified
from cl_fisher.fisher.fingerprint import fingerprint
from cl_fisher.fisher.finite import check_finite
from cl_fisher.fisher.likelihood.choice import LIKELIHOODS
from cl_fisher.fisher.likelihood.likelihood import Likelihood
from cl_fisher.fisher.one_pass import Pass, Question
from cl_fisher.fisher.plain import plain
from cl_fisher.fisher.precision import LEAST_GROUPS
from cl_fisher.fisher.processes import Processes
from cl_fisher.fisher.progress import Bar, Progress
from cl_fisher.fisher.signature import check_model
from cl_fisher.fisher.stream import Stream
from cl_fisher.fisher.structure.block_diagonal import BlockDiagonalStructure
from cl_fisher.fisher.structure.dense import DenseStructure
from cl_fisher.fisher.structure.diagonal import DiagonalStructure
from cl_fisher.fisher.structure.ekfac import EkfacStructure
from cl_fisher.fisher.structure.identity import IdentityStructure
from cl_fisher.fisher.structure.implicit import ImplicitStructure
from cl_fisher.fisher.structure.kronecker import KroneckerStructure
from cl_fisher.fisher.structure.low_rank import LowRankStructure
from cl_fisher.fisher.structure.matrix import FisherMatrix
from cl_fisher.fisher.structure.mixed import MixedStructure
from cl_fisher.fisher.structure.structure import Accumulator, Structure
from cl_fisher.fisher.together import check_together
from cl_fisher.fisher.undisturbed import explained, precise, undisturbed
from cl_fisher.fisher.unrolled import unrolled
from cl_fisher.fisher.watch import Watch

ESTIMATORS: Mapping[str, type[Estimator]] = {
    "exact": Exact,
    "monte_carlo": MonteCarlo,
    "signs": Signs,
    "stratified": Stratified,
    "empirical": Empirical,
    "argmax": Argmax,
    "batched_empirical": BatchedEmpirical,
}
STRUCTURES: Mapping[str, type[Structure]] = {
    "identity": IdentityStructure,
    "diagonal": DiagonalStructure,
    "block_diagonal": BlockDiagonalStructure,
    "kronecker": KroneckerStructure,
    "ekfac": EkfacStructure,
    "mixed": MixedStructure,
    "low_rank": LowRankStructure,
    "dense": DenseStructure,
    "implicit": ImplicitStructure,
}

_UNWATCHED = "standard_error and until are for examples of equal weight, drawn uniformly, in one process"
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
    standard_error: bool = False,
    until: UnitInterval | None = None,
    check: bool = False,
    distributed: bool = False,
    progress: bool | Progress = False,
) -> FisherMatrix:
    """Estimate the Fisher information matrix of a network's trainable parameters.

    F = mean over examples of J^T S S^T J, in evaluation mode: the mean over examples, whatever the batch size. The
    model is left as it was found: modes, buffers, hooks, gradients and random state. What a tensor hook of the model
    makes of a gradient counts as part of its derivative.

    Args:
        model: maps inputs to outputs [N, C] (logits for "categorical"), each row from its own example only; or
            [N, positions, C], of which an example's likelihood is the product.
        batches: (inputs, targets) or (inputs, targets, index), any number of times, on any device; examples first.
            Structures and samplings that read them twice (`ekfac`, importance) need more than an iterator.
        likelihood: a name of `LIKELIHOODS`, or an object: what the targets are, and how probable.
        estimator: a name of `ESTIMATORS`, or an object: which output cotangents S.
        structure: a name of `STRUCTURES`, or an object: what is kept of the matrix.
        classes: the outputs that are active, in the order in which the likelihood sees them; all if None. Class
            indices (targets of "categorical") are output indices and must be among them.
        samples: how many examples; all if None.
        sampling: "uniform": examples are taken as they come until there are `samples`, so shuffle them; "importance":
            of all examples `samples` are drawn, by how uncertain the network is about them (see `Importance`).
        seed: of what an estimator draws, with the examples' indices (else their positions in the stream).
        standard_error: also tell the standard error of each entry of the diagonal, `F.standard_error`, and
            `F.info["relative_error"]`, the root of the sum of their squares over the norm of the diagonal (see
            `Precision`). For another structure than `diagonal` the diagonal is estimated beside it.
        until: stop reading once that relative error is reached, such as 0.05; shuffle the examples.
        check: compare the estimate on a few examples with plain autograd: `F.info["check"]` (see `self_check`).
        distributed: each process of torch.distributed has its own share of the examples (`samples` of them), and all
            get the Fisher of them together. Without indices, position i of process r counts as i * processes + r.
        progress: True for a bar on standard error, or a function of (examples done, all or None).

    Returns:
        A Fisher matrix, with `info` about its making.

    Raises:
        InputError: a model that needs more than one argument, no examples, unknown names, targets that do not fit the
            outputs or are not active, an estimator and a structure that do not fit, a Fisher that is not finite.
    """
    likelihood_, estimator_, structure_ = chosen(likelihood, estimator, structure, sampling, samples)
    if (standard_error or until is not None) and (distributed or sampling == "importance"):
        raise InputError(_UNWATCHED)
    check_model(model)
    processes = Processes(distributed)
    with undisturbed(model), plain():
        given, model = model, precise(model)
        trainable = _trainable(model)
        accumulator = structure_.accumulator(model, trainable)
        question = Question(model, trainable, likelihood_, estimator_, _class_list(classes), seed, _BYTES)
        stream = Stream(batches, question, samples, sampling, processes, _reporter(progress))
        watch = None if until is None and not standard_error else Watch(accumulator, trainable, until)
        if accumulator.reads:
            with unrolled(model), explained(model is not given):
                _run(stream, question, accumulator, watch, processes)
    info: dict[str, Any] = {
        "estimator": _name(estimator_, ESTIMATORS),
        "structure": _name(structure_, STRUCTURES),
        "likelihood": _name(likelihood_, LIKELIHOODS),
        "options": _options(estimator=estimator_, structure=structure_, likelihood=likelihood_),
        "classes": question.classes,
        "samples": stream.n_looked_at,
        "sampling": sampling,
        "seed": seed,
        "dtype": str(next(iter(trainable.values())).dtype).removeprefix("torch."),
        "model": fingerprint(model),
    }
    if watch is not None:
        info["relative_error"] = watch.precision.relative_error()
        if until is not None and watch.precision.n_groups < LEAST_GROUPS:
            warnings.warn(
                f"until={until} could not be judged, and all examples were read: the relative error needs "
                f"{LEAST_GROUPS} groups of 16 examples or more",
                stacklevel=3,
            )
    fisher = accumulator.finish(stream.n_examples, info)
    if watch is not None:
        fisher = replace(fisher, standard_error=watch.standard_error(trainable, standard_error))
    if check and stream.first is not None:
        again = partial(estimate_fisher, likelihood=likelihood_, estimator=estimator_, structure=structure_, seed=seed)
        found = self_check(model, stream.first, fisher, again, likelihood_, question.classes)
        if info["estimator"] == "exact" and info["structure"] == "diagonal" and found["check_cosine"] < 0.999:
            cosine = found["check_cosine"]
            warnings.warn(
                f"this Fisher is wrong: on a few examples its cosine with plain autograd is {cosine:.4f}; please "
                "report the model",
                stacklevel=2,
            )
        fisher = replace(fisher, info=dict(fisher.info) | {"check": found})
    return fisher


def chosen(
    likelihood: str | Likelihood,
    estimator: str | Estimator,
    structure: str | Structure,
    sampling: str,
    samples: int | None,
    until: float | None = None,
) -> tuple[Likelihood, Estimator, Structure]:
    """The objects that these arguments of `estimate_fisher` stand for.

    Raises:
        InputError: unknown names, what does not go together.
    """
    likelihood_: Likelihood = named(likelihood, Likelihood, LIKELIHOODS, "likelihood")
    estimator_: Estimator = named(estimator, Estimator, ESTIMATORS, "fisher/estimator")
    structure_: Structure = named(structure, Structure, STRUCTURES, "fisher/structure")
    check_together(
        _name(estimator_, ESTIMATORS),
        estimator_.batch is not None,
        _name(structure_, STRUCTURES),
        structure_.takes_groups,
        sampling,
        samples,
    )
    if until is not None and sampling == "importance":
        raise InputError(_UNWATCHED)
    return likelihood_, estimator_, structure_


def _run(
    stream: Stream, question: Question, accumulator: Accumulator, watch: Watch | None, processes: Processes
) -> None:
    """As many passes as the accumulator wants; the first one is watched."""
    work = Pass(question, [accumulator] if watch is None else watch.accumulators)
    stream.feed(work, None if watch is None else watch.enough)
    processes.add_up_(accumulator.sums())
    check_finite(accumulator, question, stream)
    if watch is not None:
        work = Pass(question, [accumulator])
    while accumulator.next_pass(stream.n_examples):
        stream.feed(work, None)
        processes.add_up_(accumulator.sums())
        check_finite(accumulator, question, stream)


def _options(**parts: object) -> dict[str, dict[str, Any]]:
    """The options that the parts were made with, where they have any that can be written down."""
    written = {
        part: {
            name: value
            for name, value in vars(thing).items()
            if not name.startswith("_") and isinstance(value, (bool, int, float, str, type(None)))
        }
        for part, thing in parts.items()
    }
    return {part: options for part, options in written.items() if options}


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
    if lazy := [name for name, p in trainable.items() if isinstance(p, nn.parameter.UninitializedParameter)]:
        raise InputError(f"{lazy[0]} has no shape yet: run the lazy model on a batch first")
    if untracked := [name for name, p in trainable.items() if p.is_inference()]:
        raise InputError(f"{untracked[0]} was made in inference mode, which has no gradients: make the model outside")
    if complex_ := [name for name, p in trainable.items() if p.is_complex()]:
        raise InputError(f"{complex_[0]} is complex: the Fisher is for real parameters")
    return trainable


def _class_list(classes: Sequence[int] | None) -> list[int] | None:
    try:
        return None if classes is None else [operator.index(c) for c in classes]
    except TypeError as error:
        raise InputError(f"classes={classes}: a list of output indices is wanted, such as [0, 1]") from error


def named(choice: Any, kind: type, table: Mapping[str, type], word: str) -> Any:
    """The object that a name stands for; an object is passed through."""
    if isinstance(choice, kind):
        return choice
    if not isinstance(choice, str) or choice not in table:
        raise InputError(f"{word}={choice} is unknown: choose from {', '.join(table)}")
    return table[choice]()


def _name(thing: object, table: Mapping[str, type]) -> str:
    return next((name for name, kind in table.items() if type(thing) is kind), type(thing).__name__)
