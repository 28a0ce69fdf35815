"""Kronecker-factored eigenbases, with the exact diagonal in them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor, nn

from cl_fisher.bounds import checked
from cl_fisher.fisher.rule.rule import CHUNK_BYTES, LayerUse
from cl_fisher.fisher.structure.direct_sum import DirectSum
from cl_fisher.fisher.structure.ekfac_matrix import Ekfac
from cl_fisher.fisher.structure.kronecker import (
    Factors,
    KroneckerAccumulator,
    Sharing,
    assembled,
    known_sharing,
)
from cl_fisher.fisher.structure.spectrum import eigh
from cl_fisher.fisher.structure.structure import Accumulator, Structure
from cl_fisher.fisher.structure.weight_matrix import WeightMatrix
from cl_fisher.fisher.structure.wide import wide


@dataclass(frozen=True)
class Basis:
    """Of one layer; in its own type, as the products of the second pass are.

    Inputs that are zero in all examples (pixels that are always black) are left out of it: only the other K' count.
    """

    place: WeightMatrix
    outputs: Tensor
    """P, [O, O], eigenvectors of G in the columns."""
    inputs: Tensor
    """Q, [K, K], of A; the first K' columns are of the inputs that are not zero."""
    support: Tensor
    """Which these are, [K']."""
    squares: Tensor
    """Sum over examples of the squared gradients in this basis, [O, K'], in float64."""

    @classmethod
    def of(cls, mean: Factors, like: Tensor) -> Self:
        """Of the means of a first pass."""
        outputs, inputs = (eigh(f, like.dtype)[1].to(like) for f in (mean.outputs, mean.inputs))
        support = mean.inputs.any(0).nonzero().flatten()
        squares = mean.outputs.new_zeros(len(outputs), len(support))
        return cls(mean.place, outputs, inputs, support.to(like.device), squares)

    @cached_property
    def _inner(self) -> Tensor:
        return self.inputs[self.support, : len(self.support)]

    def turned(self, rows: Tensor) -> Tensor:
        """Inputs [..., k] as [..., K'] in the basis; the bias has input 1."""
        n_kept = len(self.support) - (self.place.bias is not None)
        if n_kept < rows.shape[-1]:
            rows = rows.index_select(-1, self.support[:n_kept])
        turned = rows @ self._inner[:n_kept]
        return turned if self.place.bias is None else turned.add_(self._inner[-1])

    def turned_gradients(self, gradients: Tensor) -> Tensor:
        """Gradients [..., O, K] as [..., O, K'] in the basis."""
        return self.outputs.T @ (gradients @ self.inputs[:, : len(self.support)])

    def block(self, n_examples: float) -> Ekfac:
        """The mean."""
        values = self.squares.new_zeros(len(self.outputs), len(self.inputs))
        values[:, : len(self.support)] = self.squares / n_examples
        return Ekfac(self.place, self.outputs[None], self.inputs[None], values.to(self.outputs)[None])


class EkfacAccumulator(Accumulator):
    """Two passes: the Kronecker factors, then D = E[(P^T g x^T Q)^2] with their eigenvectors P and Q.

    D is the diagonal of the Fisher in the basis P (x) Q, so of all matrices that are diagonal in it this one is nearest
    in Frobenius norm, and the trace is exact (George et al. 2018, sec. 3).
    """

    def __init__(self, parameters: Mapping[str, Tensor], sharing: Sharing) -> None:
        self._parameters = dict(parameters)
        self._factors = KroneckerAccumulator(parameters, sharing, 1)
        self._bases: dict[tuple[str, ...], Basis] | None = None

    def takes(self, use: LayerUse) -> bool:
        """Layers that multiply by a matrix."""
        return self._factors.takes(use)

    def add_inputs(self, use: LayerUse, weights: Tensor | None) -> None:
        """Of use in the first pass."""
        if self._bases is None:
            self._factors.add_inputs(use, weights)

    def add_layer(self, use: LayerUse, gradients: list[Tensor]) -> None:
        """Gradients' second moments, then squares in the basis."""
        if self._bases is None:
            self._factors.add_layer(use, gradients)
            return
        basis = self._bases[tuple(use.names.values())]
        for part in _squares(use, gradients, basis):
            basis.squares.add_(wide(part))

    def add_gradients(self, gradients: Mapping[str, Tensor]) -> None:
        """Only zeros, as `KroneckerAccumulator`."""
        self._factors.add_gradients(gradients)

    def sums(self) -> list[Tensor]:
        """Of this pass."""
        if self._bases is None:
            return self._factors.sums()
        return [basis.squares for basis in self._bases.values()]

    def next_pass(self, n_examples: float) -> bool:
        """Once more, with the eigenvectors."""
        if self._bases is not None:
            return False
        self._bases = {}
        for names, mean in self._factors.means(n_examples):
            self._bases[names] = Basis.of(mean, self._parameters[names[0]])
        return True

    def finish(self, n_examples: float, info: Mapping[str, Any]) -> DirectSum:
        """A block per layer; zero where no layer was reached."""
        assert self._bases is not None
        blocks = [basis.block(n_examples) for basis in self._bases.values()]
        return assembled(blocks, {}, self._parameters, info)


def _squares(use: LayerUse, gradients: list[Tensor], basis: Basis) -> Iterator[Tensor]:
    """Squared per-example gradients in the basis, summed over examples and columns, [O, K'], in parts.

    With one row per example (sum_v (P^T g_v)^2) ((Q^T x)^2)^T is one product for all columns. Else gradients example by
    example, either made of rows that are turned or turned themselves, whichever takes fewer operations.
    """
    n_rows = use.rule.row_gradients(use.module, gradients[0][:1]).shape[1]
    if n_rows == 1:
        yield _of_vectors(use, gradients, basis)
        return
    o, k, n_columns = basis.place.rows, basis.place.columns, len(gradients)
    turning_rows = n_rows * (k * k + n_columns * o * o)
    turning_gradients = n_columns * o * k * (o + k)
    size = max(1, CHUNK_BYTES // (o * k * basis.outputs.element_size()))
    for start in range(0, len(use.inputs), size):
        which = slice(start, start + size)
        some = [g[which] for g in gradients]
        if turning_rows <= turning_gradients:
            yield from _of_rows(use, use.inputs[which], some, basis)
        else:
            yield from _of_gradients(use, use.inputs[which], some, basis)


def _of_vectors(use: LayerUse, gradients: list[Tensor], basis: Basis) -> Tensor:
    squared: Tensor | None = None
    for gradient in gradients:
        g = use.rule.row_gradients(use.module, gradient)[:, 0] @ basis.outputs
        squared = g.square() if squared is None else squared.addcmul_(g, g)
    assert squared is not None
    return squared.T @ basis.turned(_rows(use, use.inputs, basis)[:, 0]).square_()


def _of_rows(use: LayerUse, inputs: Tensor, gradients: list[Tensor], basis: Basis) -> Iterator[Tensor]:
    x = basis.turned(_rows(use, inputs, basis))
    for gradient in gradients:
        g = use.rule.row_gradients(use.module, gradient) @ basis.outputs
        yield torch.bmm(g.mT, x.expand(*g.shape[:2], -1)).square_().sum(0)


def _of_gradients(use: LayerUse, inputs: Tensor, gradients: list[Tensor], basis: Basis) -> Iterator[Tensor]:
    for gradient in gradients:
        found = use.rule.per_example(use.module, inputs, gradient)
        g = basis.place.join({use.names[local]: t for local, t in found.items() if local in use.names})
        yield basis.turned_gradients(g).square_().sum(0)


def _rows(use: LayerUse, inputs: Tensor, basis: Basis) -> Tensor:
    if basis.place.weight is None:
        return inputs.new_ones(len(inputs), 1, 0)
    return use.rule.rows(use.module, inputs)


class EkfacStructure(Structure):
    """EKFAC: per layer a diagonal in the eigenbasis of its Kronecker factors. Reads the data twice.

    Args:
        sharing: of the Kronecker factors (`KroneckerStructure`); the diagonal is exact in either basis.
    """

    @checked
    def __init__(self, sharing: Sharing = "expand") -> None:
        self.sharing: Sharing = known_sharing(sharing)

    def accumulator(self, model: nn.Module, parameters: Mapping[str, nn.Parameter]) -> EkfacAccumulator:  # noqa: ARG002
        """Which layers there are, the first batch tells."""
        return EkfacAccumulator(parameters, self.sharing)
