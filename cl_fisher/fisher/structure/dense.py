"""The whole matrix, P x P numbers."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from cl_fisher.bounds import Count, checked
from cl_fisher.error import InputError
from cl_fisher.fisher.structure.coordinates import Coordinates
from cl_fisher.fisher.structure.matrix import FisherMatrix, Parameters
from cl_fisher.fisher.structure.spectrum import damped
from cl_fisher.fisher.structure.structure import Accumulator, Structure
from cl_fisher.fisher.structure.wide import wide

LIMIT = 10_000
"""Weights; their sums in float64 are 0.8 GB."""


@dataclass(frozen=True, eq=False)
class Dense(FisherMatrix):
    """A dense Fisher; everything beyond products comes from one eigendecomposition in float64, made when first needed.

    Kept in 32 bits, eigenvalues below about 1e-7 of the largest are rounding; negative ones are taken as zero.
    """

    kind: ClassVar[str] = "dense"
    matrix: Tensor
    """[P, P]."""
    coordinates: Coordinates

    @cached_property
    def _decomposition(self) -> tuple[Tensor, Tensor]:
        """Eigenvalues [P] ascending, eigenvectors in columns."""
        values, vectors = torch.linalg.eigh(wide(self.matrix))
        return values.clamp(min=0), vectors

    def mv(self, vector: Parameters) -> dict[str, Tensor]:
        """F v."""
        return self.coordinates.named(self.matrix @ self._flat(vector))

    def quadratic(self, delta: Parameters) -> Tensor:
        """delta^T F delta."""
        d = self._flat(delta)
        return d.dot(self.matrix @ d)

    def solve(self, vector: Parameters, damping: float) -> dict[str, Tensor]:
        """(F + damping I)^-1 v, in the eigenbasis."""
        values, vectors = self._decomposition
        solved = vectors @ ((vectors.T @ wide(self.coordinates.flat(vector))) / damped(values, damping))
        return self.coordinates.named(solved.to(self.matrix))

    def diagonal(self) -> dict[str, Tensor]:
        """The diagonal."""
        return self.coordinates.named(self.matrix.diagonal().clone())

    def trace(self) -> float:
        """Sum of the diagonal."""
        return wide(self.matrix.diagonal()).sum().item()

    def norm(self) -> float:
        """Root of the sum of squares."""
        return wide(self.matrix).norm().item()

    def logdet(self, damping: float) -> float:
        """Sum of log(eigenvalue + damping)."""
        return damped(self._decomposition[0], damping).log().sum().item()

    def eigenvalues(self) -> Tensor:
        """In float64."""
        return self._decomposition[0].flip(0)

    def sample(self, n: int, damping: float, seed: int = 0) -> dict[str, Tensor]:
        """Normal draws scaled along the eigenvectors."""
        values, vectors = self._decomposition
        generator = torch.Generator().manual_seed(seed)
        normal = torch.randn(n, len(values), generator=generator, dtype=torch.float64).to(values.device)
        return self.coordinates.named(((normal * damped(values, damping).rsqrt()) @ vectors.T).to(self.matrix))

    def shapes(self) -> dict[str, torch.Size]:
        """Of all parameters."""
        return dict(self.coordinates.shapes)

    def to_dense(self) -> Tensor:
        """A copy."""
        return self.matrix.clone()

    def _plus(self, other: Self) -> Self:
        return type(self)(self.matrix + other._over(self.coordinates).matrix, self.coordinates, info=self.info)

    def _times(self, factor: float) -> Self:
        return type(self)(self.matrix * factor, self.coordinates, info=self.info)

    def grown(self, like: Parameters) -> Self:
        """Rows and columns of zeros for new weights, where `like` has them."""
        return self._over(Coordinates.of(like))

    def to(self, like: Parameters) -> Self:
        """The matrix moved; as precise as the most precise parameter."""
        return type(self)(moved(self.matrix, like, self.coordinates), self.coordinates, info=self.info)

    def tensors(self) -> dict[str, Tensor]:
        """The matrix."""
        return {"matrix": self.matrix}

    def form(self) -> dict[str, Any]:
        """The parameters' shapes."""
        return {"shapes": self.coordinates.form()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], info: Mapping[str, Any], form: Mapping[str, Any]) -> Self:
        """Undo `tensors` and `form`."""
        return cls(tensors["matrix"], Coordinates.from_form(form["shapes"]), info=info)

    def _flat(self, vector: Parameters) -> Tensor:
        return self.coordinates.flat(vector).to(self.matrix)

    def _over(self, coordinates: Coordinates) -> Self:
        if list(coordinates.shapes.items()) == list(self.coordinates.shapes.items()):
            return self
        places = self.coordinates.places(coordinates).to(self.matrix.device)
        larger = self.matrix.new_zeros(coordinates.size, coordinates.size)
        larger[places[:, None], places] = self.matrix
        return type(self)(larger, coordinates, info=self.info)


def moved(tensor: Tensor, like: Parameters, coordinates: Coordinates) -> Tensor:
    """Where those parameters of `like` are that the coordinates have, and as precise, at least in 32 bits."""
    dtype, device = torch.float32, tensor.device
    for name in coordinates.shapes:
        if name in like:
            dtype, device = torch.promote_types(dtype, like[name].dtype), like[name].device
    return tensor.to(device, dtype).contiguous()


class DenseAccumulator(Accumulator):
    """Sums M^T M, with per-example gradients in the rows of M: in the model's type within a part, float64 across."""

    joint: ClassVar[bool] = True

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        self._like = dict(parameters)
        self._coordinates = Coordinates.of(parameters)
        size = self._coordinates.size
        self._sum = wide(next(iter(parameters.values()))).new_zeros(size, size)

    def add_gradients(self, gradients: Mapping[str, Tensor]) -> None:
        """The product of all columns' and examples' gradients with themselves."""
        rows = self._coordinates.flat(gradients, n_leading=2).detach().flatten(0, 1)
        self._sum += (rows.T @ rows).to(self._sum.device)

    def sums(self) -> list[Tensor]:
        """The sum of products."""
        return [self._sum]

    def finish(self, n_examples: float, info: Mapping[str, Any]) -> Dense:
        """The mean, in the parameters' own type and place."""
        return Dense(moved(self._sum / n_examples, self._like, self._coordinates), self._coordinates, info=info)


class DenseStructure(Structure):
    """Keep everything, for small networks.

    Args:
        limit: weights; a network with more is refused. Sums take 8 bytes times the square of their number, and the
            eigendecomposition as much again.
    """

    @checked
    def __init__(self, limit: Count = LIMIT) -> None:
        self.limit = limit

    def accumulator(self, model: nn.Module, parameters: Mapping[str, nn.Parameter]) -> DenseAccumulator:  # noqa: ARG002
        """Zeros for every pair of weights."""
        check_size(parameters, self.limit, "the network", "fisher/structure=kronecker, block_diagonal or low_rank")
        return DenseAccumulator(parameters)


def check_size(parameters: Mapping[str, Tensor], limit: int, what: str, instead: str) -> None:
    """Raise `InputError` if so many weights are too many for a dense matrix."""
    size = sum(p.numel() for p in parameters.values())
    if size > limit:
        gigabytes = math.ceil(8 * size**2 / 1e8) / 10
        raise InputError(
            f"{what} has {size:,} weights, whose dense Fisher takes {gigabytes:,} GB: {instead} would do, or a "
            f"fisher.structure.limit above {limit:,}"
        )
