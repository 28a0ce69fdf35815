"""The one loop over data in which every Fisher is estimated."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from cl_fisher.bounds import Count, Index, checked
from cl_fisher.error import InputError
from cl_fisher.fisher import capture
from cl_fisher.fisher.estimator.empirical import Empirical
from cl_fisher.fisher.estimator.estimator import Estimator
from cl_fisher.fisher.estimator.exact import Exact
from cl_fisher.fisher.fallback import per_example_gradients
from cl_fisher.fisher.likelihood import LIKELIHOODS, Likelihood
from cl_fisher.fisher.structure.diagonal import DiagonalStructure
from cl_fisher.fisher.structure.matrix import FisherMatrix
from cl_fisher.fisher.structure.structure import Accumulator, Structure

ESTIMATORS: Mapping[str, type[Estimator]] = {"exact": Exact, "empirical": Empirical}
STRUCTURES: Mapping[str, type[Structure]] = {"diagonal": DiagonalStructure}

_FALLBACK_BYTES = 256 * 2**20


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
        estimator: "exact" or "empirical", or an object: which output cotangents S.
        structure: "diagonal", or an object: what is kept of the matrix.
        classes: the outputs that are active, in the order in which the likelihood sees them; all if None. Targets
            are output indices and must be among them.
        samples: stop after so many examples; all if None.
        sampling: "uniform": examples are taken as they come, so shuffle them if `samples` is given.
        seed: of what an estimator draws.

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
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not trainable:
        raise InputError("no parameter of the model requires a gradient, so it has no Fisher")
    accumulator = structure_.accumulator(trainable)
    n = 0
    left_to_fallback: set[str] | None = None
    with undisturbed(model):
        for inputs, targets in _limited(batches, samples, next(iter(trainable.values())).device):
            left_to_fallback = _add_batch(
                accumulator, model, inputs, targets, trainable, likelihood_, estimator_, classes, left_to_fallback
            )
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


def _add_batch(
    accumulator: Accumulator,
    model: nn.Module,
    inputs: Any,
    targets: Tensor,
    trainable: Mapping[str, nn.Parameter],
    likelihood: Likelihood,
    estimator: Estimator,
    classes: Sequence[int] | None,
    left_to_fallback: set[str] | None,
) -> set[str]:
    outputs, uses = capture.forward(model, inputs, trainable)
    columns = _columns(outputs.detach(), targets, likelihood, estimator, classes)
    if left_to_fallback is None:  # once: are the rules right about this model?
        probe = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(0)).to(outputs)
        wrong = capture.disagreeing(uses, outputs, probe, trainable)
        covered = {name for use in uses if not wrong & set(use.names.values()) for name in use.names.values()}
        left_to_fallback = set(trainable) - covered
    uses = [use for use in uses if not left_to_fallback & set(use.names.values())]
    if missing := set(trainable) - left_to_fallback - {name for use in uses for name in use.names.values()}:
        raise InputError(f"the model does not use {sorted(missing)} in every batch, so its Fisher has no meaning")
    if uses:
        gradients = [
            torch.autograd.grad(outputs, [use.edge for use in uses], column, retain_graph=True, materialize_grads=True)
            for column in columns
        ]
        for i, use in enumerate(uses):
            accumulator.add_layer(use, [g[i] for g in gradients])
    if left_to_fallback:
        rest = {name: trainable[name] for name in trainable if name in left_to_fallback}
        for part in per_example_gradients(model, inputs, columns, rest, _FALLBACK_BYTES):
            accumulator.add_gradients(part)
    return left_to_fallback


def _columns(
    outputs: Tensor, targets: Tensor, likelihood: Likelihood, estimator: Estimator, classes: Sequence[int] | None
) -> Tensor:
    """Cotangents [V, N, C] over all outputs, zero where a class is not active."""
    if classes is None:
        _check_targets(targets, outputs.shape[1])
        return estimator.columns(likelihood, outputs.float() if outputs.dtype.itemsize < 4 else outputs, targets).to(
            outputs
        )
    if len(set(classes)) != len(classes) or not classes or min(classes) < 0 or max(classes) >= outputs.shape[1]:
        raise InputError(f"classes={list(classes)}: distinct outputs from 0 to {outputs.shape[1] - 1} are wanted")
    active = torch.tensor(list(classes), device=outputs.device)
    position = torch.full((outputs.shape[1],), -1, device=outputs.device)
    position[active] = torch.arange(len(active), device=outputs.device)
    _check_targets(targets, outputs.shape[1])
    local = position[targets]
    if bool((local < 0).any()):
        raise InputError(
            f"targets {sorted(set(targets[local < 0].tolist()))} are not among the active classes {list(classes)}"
        )
    some = estimator.columns(likelihood, outputs[:, active], local)
    return some.new_zeros(len(some), *outputs.shape).index_copy_(2, active, some)


def _check_targets(targets: Tensor, n_classes: int) -> None:
    if targets.dtype.is_floating_point or targets.dim() != 1:
        raise InputError(
            f"targets must be class indices of shape [examples], not {targets.dtype} {tuple(targets.shape)}"
        )
    if len(targets) and not 0 <= int(targets.min()) <= int(targets.max()) < n_classes:
        raise InputError(
            f"targets lie in {int(targets.min())}..{int(targets.max())}, the model has outputs 0..{n_classes - 1}"
        )


def _limited(
    batches: Iterable[Sequence[Any]], samples: int | None, device: torch.device
) -> Iterator[tuple[Any, Tensor]]:
    """Batches on the model's device, empty ones left out, cut off after `samples` examples."""
    left = samples
    for batch in batches:
        if left == 0:
            return
        if not isinstance(batch, (tuple, list)) or len(batch) < 2:
            raise InputError(
                f"a batch must be (inputs, targets) or (inputs, targets, index), not {type(batch).__name__}"
            )
        inputs, targets = _to(batch[0], device), batch[1].to(device)
        if left is not None:
            inputs, targets = _first(inputs, left), targets[:left]
            left -= len(targets)
        if len(targets):
            yield inputs, targets


def _to(inputs: Any, device: torch.device) -> Any:
    return torch.utils._pytree.tree_map(lambda t: t.to(device) if isinstance(t, Tensor) else t, inputs)


def _first(inputs: Any, n: int) -> Any:
    return torch.utils._pytree.tree_map(lambda t: t[:n] if isinstance(t, Tensor) else t, inputs)


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode with gradients on; on leaving, every mode and the random state are as before."""
    modes = {module: module.training for module in model.modules()}
    devices = {p.device.index for p in model.parameters() if p.device.type == "cuda"}
    try:
        with (
            torch.random.fork_rng(devices=[d for d in devices if d is not None]),
            torch.inference_mode(False),
            torch.enable_grad(),
        ):
            model.eval()
            yield
    finally:
        for module, training in modes.items():
            module.training = training


def named(choice: Any, kind: type, table: Mapping[str, type], word: str) -> Any:
    """The object that a name stands for; an object is passed through."""
    if isinstance(choice, kind):
        return choice
    if choice not in table:
        raise InputError(f"{word}={choice} is unknown: choose from {', '.join(table)}")
    return table[choice]()


def _name(thing: object, table: Mapping[str, type]) -> str:
    return next((name for name, kind in table.items() if type(thing) is kind), type(thing).__name__)
