"""Eigenvalues and eigenvectors of a matrix over one layer's parameters [O, K], in float64."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from cl_fisher.error import InputError
from cl_fisher.fisher.structure.matrix import check_damping
from cl_fisher.fisher.structure.wide import wide

MAX_ROWS = 4096
"""Of a block that is made dense: 128 MiB, and minutes for its eigenvalues."""


class Spectrum(Protocol):
    """F = U diag(values) U^T."""

    @property
    def values(self) -> Tensor:
        """The eigenvalues, [O, K], in no order."""

    def apply(self, factors: Tensor, matrices: Tensor) -> Tensor:
        """U diag(factors) U^T times each of the matrices [..., O, K]."""


@dataclass(frozen=True)
class KroneckerSpectrum:
    """U is a Kronecker product: closed forms at the price of products with [O, O] and [K, K]."""

    outputs: Tensor
    """[O, O], orthogonal."""
    inputs: Tensor
    """[K, K], orthogonal."""
    values: Tensor

    def apply(self, factors: Tensor, matrices: Tensor) -> Tensor:
        """Into the eigenbasis and back."""
        inside = self.outputs.T @ matrices @ self.inputs
        return self.outputs @ (inside * factors) @ self.inputs.T


@dataclass(frozen=True)
class DenseSpectrum:
    """U has no form of its own."""

    vectors: Tensor
    """[O * K, O * K]."""
    values: Tensor

    def apply(self, factors: Tensor, matrices: Tensor) -> Tensor:
        """Into the eigenbasis and back."""
        inside = matrices.flatten(-2) @ self.vectors
        return ((inside * factors.flatten()) @ self.vectors.T).reshape(matrices.shape)


def of_sum(n_terms: int, shape: tuple[int, int], dense: Callable[[], Tensor], dtype: torch.dtype) -> DenseSpectrum:
    """The spectrum of a sum of terms, which has no closed form, from its dense matrix [O * K, O * K] as of `dtype`.

    Raises:
        InputError: more than `MAX_ROWS` rows.
    """
    if math.prod(shape) > MAX_ROWS:
        raise InputError(
            f"{n_terms} Kronecker terms over {math.prod(shape)} parameters, more than {MAX_ROWS}, have no cheap "
            "eigenvalues, log-determinant or samples: a single term (rank=1, `merged` in place of +) has closed forms"
        )
    values, vectors = eigh(dense(), dtype)
    return DenseSpectrum(vectors, values.reshape(shape))


def sampled(spectrum: Spectrum, n: int, damping: float, seed: int) -> Tensor:
    """Draws [n, O, K] from N(0, (F + damping I)^-1)."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(n, *spectrum.values.shape, generator=generator, dtype=torch.float64)
    return spectrum.apply(damped(spectrum.values, damping).rsqrt(), noise.to(spectrum.values))


def eigh(matrix: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors in float64 of a symmetric matrix that is as precise as `dtype`.

    Rows of zeros (pixels that are always black, dead units) are left out and put back: that is exact, and cheaper.
    Negative eigenvalues within the rounding error of `dtype` become zero.
    """
    whole = wide(matrix)
    support = whole.any(0).nonzero().flatten()
    empty = (~whole.any(0)).nonzero().flatten()
    part = whole[support[:, None], support]
    found, inner = torch.linalg.eigh((part + part.T) / 2)
    rounding = len(whole) * torch.finfo(dtype).eps * found.abs().max() if len(found) else 0.0
    vectors = torch.zeros_like(whole)
    vectors[support[:, None], torch.arange(len(support), device=whole.device)] = inner
    vectors[empty, torch.arange(len(support), len(whole), device=whole.device)] = 1
    values = whole.new_zeros(len(whole))
    values[: len(support)] = torch.where((found < 0) & (found > -rounding), 0.0, found)
    return values, vectors


def damped(values: Tensor, damping: float) -> Tensor:
    """The eigenvalues of F + damping I.

    Raises:
        InputError: a negative damping, or one with which they are not all positive.
    """
    check_damping(damping)
    total = values + damping
    if not bool((total > 0).all()):
        raise InputError(
            f"damping={damping:g} is too small: the smallest eigenvalue of the matrix is {float(values.min()):.3g}, "
            "and with damping it must be positive"
        )
    return total


def kron(a: Tensor, b: Tensor) -> Tensor:
    """The Kronecker product of two matrices; `torch.kron` fails on some that are not contiguous."""
    rows, columns = len(a) * len(b), a.shape[1] * b.shape[1]
    return (a[:, None, :, None] * b[None, :, None, :]).reshape(rows, columns)
