"""Kronecker factors: the second moments of a layer's inputs and of the gradients at its outputs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from cl_fisher.bounds import Count, checked
from cl_fisher.error import InputError
from cl_fisher.fisher.rule.rule import LayerUse
from cl_fisher.fisher.structure.diagonal import Diagonal
from cl_fisher.fisher.structure.direct_sum import DirectSum
from cl_fisher.fisher.structure.gram import add_gram_, mirrored
from cl_fisher.fisher.structure.kronecker_matrix import Kronecker
from cl_fisher.fisher.structure.matrix import FisherMatrix
from cl_fisher.fisher.structure.structure import Accumulator, Structure
from cl_fisher.fisher.structure.weight_matrix import WeightMatrix
from cl_fisher.fisher.structure.wide import wide

Sharing = Literal["expand", "reduce"]

_ROWS_BYTES = 64 * 2**20
"""Of a layer's input rows at a time: a convolution has each pixel in many of them."""


@dataclass(frozen=True)
class Factors:
    """Sums over examples for one layer, or their means, in float64."""

    place: WeightMatrix
    inputs: Tensor
    """Of x x^T, [K, K]; in sums, but not in means, only on and above the diagonal."""
    outputs: Tensor
    """Of g g^T, [O, O]; likewise."""
    seen: Tensor
    """Of the weights of the examples whose inputs came by, a scalar."""


class KroneckerAccumulator(Accumulator):
    """Sums in the layers' own type within a batch, in float64 over batches. The products of x are taken once a batch.

    For one row x per example F = E[g g^T (x) x x^T] is taken as E[g g^T] (x) E[x x^T], g the gradient at W x, all
    columns of an example summed (Martens & Grosse 2015, eq. 1); the bias is a column of W with x = 1. Where a layer has
    S rows x_s per example with gradients g_s (positions, pixels, calls), with <> the mean over examples:

    - expand: G = <sum_s g_s g_s^T>, A = <1/S sum_s x_s x_s^T> (Grosse & Martens 2016 for convolutions, with S moved);
    - reduce: G = <(sum_s g_s)(sum_s g_s)^T>, A = <m m^T>, m = 1/S sum_s x_s, exact for one example if its gradients
      are the same at all positions, as before an average over them.

    Both are of Eschenhagen et al. 2023 (sec. 3.2 and 3.3), and the same for S = 1.
    """

    def __init__(self, parameters: Mapping[str, Tensor], sharing: Sharing, rank: int | None) -> None:
        self._parameters = dict(parameters)
        self._reduce = sharing == "reduce"
        self._rank = rank
        self.layers: dict[tuple[str, ...], Factors] = {}
        """By the names of their parameters."""

    def takes(self, use: LayerUse) -> bool:
        """Layers that multiply by a matrix."""
        return use.rule.is_matrix(use.module)

    def add_inputs(self, use: LayerUse, weights: Tensor | None) -> None:
        """Second moments of the inputs."""
        layer = self._layer(use)
        start = 0
        for rows in self._rows(use, layer.place):
            stop = start + len(rows)
            self._add_rows(layer, rows, None if weights is None else weights[start:stop].to(rows))
            start = stop

    def _rows(self, use: LayerUse, place: WeightMatrix) -> Iterator[Tensor]:
        """Rows [n, S, K] of some examples at a time."""
        if place.weight is None:
            yield use.inputs.new_ones(len(use.inputs), 1, 0)
            return
        first = use.rule.rows(use.module, use.inputs[:1])
        size = max(1, _ROWS_BYTES // max(1, first.numel() * first.element_size()))
        for some in use.inputs.split(size):
            rows = use.rule.rows(use.module, some)
            yield rows.mean(1, keepdim=True) if self._reduce else rows

    def _add_rows(self, layer: Factors, rows: Tensor, weights: Tensor | None) -> None:
        n, n_rows, k = rows.shape
        x = rows.flatten(0, 1)
        weighted = x if weights is None else x * weights.repeat_interleave(n_rows)[:, None]
        total = float(n) if weights is None else wide(weights).sum()
        add_gram_(layer.inputs[:k, :k], x, weighted, 1 / n_rows)
        if layer.place.bias is not None:
            layer.inputs[:k, -1] += wide(weighted.sum(0)) / n_rows
            layer.inputs[-1, -1] += total
        layer.seen.add_(total)

    def add_layer(self, use: LayerUse, gradients: list[Tensor]) -> None:
        """Second moments of the gradients at the outputs."""
        layer = self._layer(use)
        for gradient in gradients:
            rows = use.rule.row_gradients(use.module, gradient)
            add_gram_(layer.outputs, rows.sum(1) if self._reduce else rows.flatten(0, 1))

    def add_gradients(self, gradients: Mapping[str, Tensor]) -> None:
        """Only zeros, of layers that the examples do not reach.

        Raises:
            InputError: a parameter that is not of a layer that multiplies by a matrix.
        """
        for name, g in gradients.items():
            if bool(g.any()):
                raise InputError(
                    f"{name} has no Kronecker form (norms, embeddings, convolutions in groups and tied weights have "
                    "none): fisher/structure=mixed keeps its diagonal"
                )

    def _layer(self, use: LayerUse) -> Factors:
        key = tuple(use.names.values())
        if key not in self.layers:
            place = WeightMatrix.of(use)
            zero = wide(self._parameters[key[0]]).new_zeros
            inputs, outputs = zero(place.columns, place.columns), zero(place.rows, place.rows)
            self.layers[key] = Factors(place, inputs, outputs, zero(()))
        return self.layers[key]

    def sums(self) -> list[Tensor]:
        """Both factors of all layers, and what was counted."""
        return [sum_ for layer in self.layers.values() for sum_ in (layer.inputs, layer.outputs, layer.seen)]

    def means(self, n_examples: float) -> Iterator[tuple[tuple[str, ...], Factors]]:
        """G and A of each layer, in float64."""
        for names, layer in self.layers.items():
            outputs, inputs = mirrored(layer.outputs / n_examples), mirrored(layer.inputs / layer.seen)
            yield names, replace(layer, outputs=outputs, inputs=inputs)

    def finish(self, n_examples: float, info: Mapping[str, Any]) -> DirectSum:
        """A block per layer; zero where no layer was reached."""
        blocks: list[FisherMatrix] = []
        for names, mean in self.means(n_examples):
            g, a = (factor.to(self._parameters[names[0]])[None] for factor in (mean.outputs, mean.inputs))
            blocks.append(Kronecker(mean.place, g, a, self._rank))
        return assembled(blocks, {}, self._parameters, info)


def assembled(
    blocks: Sequence[FisherMatrix],
    diagonals: Mapping[str, Tensor],
    parameters: Mapping[str, Tensor],
    info: Mapping[str, Any],
) -> DirectSum:
    """The blocks, and for all other parameters a diagonal, each by itself; zero for those that nothing is said of."""
    covered = {name for block in blocks for name in block.shapes()}
    rest = {
        name: diagonals.get(name, torch.zeros_like(p, requires_grad=False))
        for name, p in parameters.items()
        if name not in covered
    }
    alone = [Diagonal({name: entries}) for name, entries in rest.items()]
    return DirectSum((*blocks, *alone), tuple(parameters), info=info)


class KroneckerStructure(Structure):
    """KFAC: a Kronecker product per layer.

    Args:
        sharing: what is summed first where a layer sees several positions of an example: `expand` for layers whose
            positions are used one by one, `reduce` before an average over positions (`KroneckerAccumulator`).
        rank: how many Kronecker terms are kept of a sum over tasks; all, one per task, if None.
    """

    @checked
    def __init__(self, sharing: Sharing = "expand", rank: Count | None = 1) -> None:
        self.sharing: Sharing = known_sharing(sharing)
        self.rank = rank

    def accumulator(self, model: nn.Module, parameters: Mapping[str, nn.Parameter]) -> KroneckerAccumulator:  # noqa: ARG002
        """Which layers there are, the first batch tells."""
        return KroneckerAccumulator(parameters, self.sharing, self.rank)


def known_sharing(sharing: Sharing) -> Sharing:
    """The same.

    Raises:
        InputError: neither `expand` nor `reduce`.
    """
    if sharing not in get_args(Sharing):
        raise InputError(f"sharing={sharing} is unknown: choose from {', '.join(get_args(Sharing))}")
    return sharing
