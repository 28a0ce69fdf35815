"""Numbers by which a wrong Fisher is seen: its shape, and a comparison with plain autograd on a few examples."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from cl_fisher.bounds import Count, checked
from cl_fisher.error import InputError
from cl_fisher.fisher.apart import Apart
from cl_fisher.fisher.batches import Batch, read
from cl_fisher.fisher.likelihood.active import over_all_outputs
from cl_fisher.fisher.likelihood.choice import LIKELIHOODS
from cl_fisher.fisher.likelihood.likelihood import Likelihood
from cl_fisher.fisher.structure.matrix import FisherMatrix
from cl_fisher.fisher.undisturbed import precise, undisturbed

_EXAMPLES = 16  # compared at most
_RANKED = 2**17  # entries that are ranked at most: sorting would be the longest step for a large network
_NUMBERS = 2**22  # of columns that are held at once


class Estimate(Protocol):
    """`estimate_fisher` with everything but these said already."""

    def __call__(
        self, model: nn.Module, batches: Sequence[Any], *, classes: Sequence[int] | None = None
    ) -> FisherMatrix:
        """The Fisher over these batches."""


@checked
def self_check(
    model: nn.Module,
    batch: Sequence[Any],
    fisher: FisherMatrix,
    estimate: Estimate,
    likelihood: str | Likelihood = "categorical",
    classes: Sequence[int] | None = None,
    passes: Count = 160,
) -> dict[str, float]:
    """What a finished estimate looks like, and how far the same way of estimating is from the definition.

    The comparison takes the examples of `batch` that the network is most uncertain about. Their diagonal by `estimate`
    is held against J^T S S^T J from one backward pass per example and column, with none of the code that the estimate
    uses. An exact diagonal has cosine, rank correlation and ratio 1; of random labels or signs on so few examples the
    cosine may be 0.5; `empirical` is not the Fisher, and its numbers say by how much. The model is left as it was.

    Args:
        model: the network that was estimated, unchanged since.
        batch: (inputs, targets) or (inputs, targets, index); the first one of the data will do.
        fisher: the finished estimate.
        estimate: how it was made, for example `functools.partial(estimate_fisher, estimator="exact")`.
        likelihood: as in `estimate_fisher`.
        classes: as in `estimate_fisher`.
        passes: backward passes for the comparison: it decides how many examples, 1 to 16, are taken.

    Returns:
        `trace`; `zero`, the share of entries of the diagonal that are exactly 0; `share/<module>` of the trace, nan if
        that is 0; `check_cosine`, `check_rank` (Spearman, ties averaged, of 131,072 entries drawn if there are more)
        and `check_ratio` (trace of the estimate over that of the reference), nan where not defined; `check_examples`,
        how many were compared.

    Raises:
        InputError: an empty batch, an unknown likelihood.
    """
    if isinstance(likelihood, str):
        if likelihood not in LIKELIHOODS:
            raise InputError(f"likelihood={likelihood} is unknown: choose from {', '.join(LIKELIHOODS)}")
        likelihood = LIKELIHOODS[likelihood]()
    with undisturbed(model):
        model = precise(model)
        weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
        some, roots = _uncertain(model, batch, next(iter(weights.values())), likelihood, classes, passes)
        reference = _reference(model, weights, some, roots)
        estimated = estimate(model, [(some.inputs, some.targets, some.index)], classes=classes).diagonal()
    entries = fisher.diagonal()
    ours = [estimated[name] if name in estimated else torch.zeros_like(r) for name, r in reference.items()]
    return _shape(entries) | _compared(_flat(ours), _flat(reference.values())) | {"check_examples": float(len(some))}


def _shape(entries: Mapping[str, Tensor]) -> dict[str, float]:
    sums = {name: float(_flat([f]).sum()) for name, f in entries.items()}
    trace, count = math.fsum(sums.values()), sum(f.numel() for f in entries.values())
    zeros = sum(int((f == 0).sum()) for f in entries.values())
    share: dict[str, float] = {}
    for name, part in sums.items():
        key = f"share/{name.rpartition('.')[0] or name}"
        share[key] = share.get(key, 0.0) + (part / trace if trace else math.nan)
    return {"trace": trace, "zero": zeros / count} | share


def _uncertain(
    model: nn.Module,
    batch: Sequence[Any],
    like: Tensor,
    likelihood: Likelihood,
    classes: Sequence[int] | None,
    passes: int,
) -> tuple[Batch, Tensor]:
    """The examples whose outputs have the largest Fisher, and their columns [V, n, ..., C]."""
    examples = next(read([batch], like, apart=Apart(model)), None)
    if examples is None:
        raise InputError("the self-check was given a batch without examples")
    with torch.no_grad():
        outputs = model(examples.copied_inputs())
    active, _ = likelihood.select(outputs, examples.targets, classes)
    n_columns = likelihood.n_columns(active)
    sizes = [
        likelihood.column_norms(few).square().sum(0)
        for few in active.split(max(1, _NUMBERS // (n_columns * outputs[0].numel())))
    ]
    count = min(len(outputs), _EXAMPLES, max(1, passes // n_columns))
    rows = torch.cat(sizes).topk(count).indices
    columns = over_all_outputs(likelihood.square_root(active[rows]), outputs[rows], classes)
    return examples.part(rows), columns


def _reference(
    model: nn.Module, weights: Mapping[str, nn.Parameter], examples: Batch, columns: Tensor
) -> dict[str, Tensor]:
    """The diagonal of the mean of J^T S S^T J: every example alone, every column alone."""
    total = {name: torch.zeros_like(p) for name, p in weights.items()}
    for n in range(len(examples)):
        outputs = model(examples.part(slice(n, n + 1)).copied_inputs())
        for column in columns[:, n : n + 1]:
            gradients = torch.autograd.grad(
                outputs, list(weights.values()), column, retain_graph=True, materialize_grads=True
            )
            for total_, gradient in zip(total.values(), gradients, strict=True):
                total_.addcmul_(gradient, gradient, value=1 / len(examples))
    return total


def _compared(ours: Tensor, reference: Tensor) -> dict[str, float]:
    drawn: Tensor | slice = slice(None)
    if len(ours) > _RANKED:
        drawn = torch.randint(len(ours), (_RANKED,), generator=torch.Generator().manual_seed(0))
    return {
        "check_cosine": _cosine(ours, reference),
        "check_rank": spearman(ours[drawn], reference[drawn]),
        "check_ratio": float(ours.sum() / reference.sum()),
    }


def _flat(parts: Iterable[Tensor]) -> Tensor:
    """In float64, on the CPU."""
    return torch.cat([t.detach().cpu().double().flatten() for t in parts])


def _cosine(a: Tensor, b: Tensor) -> float:
    return float(a.dot(b) / (a.norm() * b.norm()))


def spearman(a: Tensor, b: Tensor) -> float:
    """Rank correlation of two vectors, equal entries sharing their mean rank; nan if one is constant."""
    ranks = [_ranks(t) for t in (a, b)]
    return _cosine(*(r - r.mean() for r in ranks))


def _ranks(values: Tensor) -> Tensor:
    _, position, counts = values.unique(return_inverse=True, return_counts=True)
    return (counts.cumsum(0).double() - 0.5 * (counts - 1))[position]
