"""No matrix at all: the data is kept, and products with the Fisher are computed from it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from cl_fisher.error import InputError
from cl_fisher.fisher.batches import Batch
from cl_fisher.fisher.structure import lanczos
from cl_fisher.fisher.structure.kept import Kept, kept
from cl_fisher.fisher.structure.matrix import FisherMatrix, Parameters, check_damping, entry
from cl_fisher.fisher.structure.structure import Accumulator, Structure

SMALL = 4096
"""Up to so many parameters spectra are computed from the dense matrix."""


@dataclass(frozen=True, eq=False)
class Implicit(FisherMatrix):
    """The whole Fisher, with nothing left out, as its data: an oracle to compare other structures with.

    It keeps all the old data, so a method that uses it is not continual learning without storing examples. It cannot
    be stored or resumed: `tensors` raises `InputError`.

    Products, quadratic form, diagonal, trace and dense matrix are exact up to rounding; every other operation says
    its tolerance. Each product takes a pass over all data.
    """

    kind: ClassVar[str] = "implicit"
    terms: tuple[tuple[Kept, float], ...]
    """Data and factor of each: F is their weighted sum."""
    sizes: Mapping[str, torch.Size]
    """Of all parameters, in order; a term may know fewer and smaller ones."""

    def mv(self, vector: Parameters) -> dict[str, Tensor]:
        """F v: one forward-mode pass and one backward pass over the data."""
        self._check(vector)
        return self._summed(lambda data: data.mv(_corners(vector, data)))

    def quadratic(self, delta: Parameters) -> Tensor:
        """delta^T F delta: one forward-mode pass over the data."""
        self._check(delta)
        return torch.stack([data.quadratic(_corners(delta, data)) * factor for data, factor in self.terms]).sum()

    def solve(self, vector: Parameters, damping: float) -> dict[str, Tensor]:
        """By conjugate gradients, to a residual of 1e-5 of v (1e-10 in float64).

        Raises:
            InputError: not reached; without damping v must be in the range of F, and the shortest x is found.
        """
        check_damping(damping)
        self._check(vector)
        v = _flat(vector, self.sizes).detach().to(self._like())
        tolerance = 1e-10 if v.dtype == torch.float64 else 1e-5
        x = lanczos.conjugate_gradients(lambda d: self._product(d).add_(d, alpha=damping), v, tolerance)
        return self._named(x)

    def diagonal(self) -> dict[str, Tensor]:
        """Exact, by the rules of a diagonal estimate; some passes over the data."""
        return self._summed(lambda data: data.diagonal())

    def trace(self) -> float:
        """Sum of the diagonal."""
        return float(torch.cat([f.flatten() for f in self.diagonal().values()]).sum())

    def norm(self) -> float:
        """Exact if small; else the standard error is under 1 % (`lanczos.trace_of` of F^2), the same at every call."""
        if self._size() <= SMALL:
            return float(self.to_dense().norm())
        return float(self._trace_of(torch.square, 0.02) ** 0.5)

    def logdet(self, damping: float) -> float:
        """Exact if small; else log det(I + F/damping) has a standard error under 1 %, the same at every call.

        Raises:
            InputError: the damping is not positive.
        """
        if damping <= 0:
            raise InputError(f"damping={damping} is out of range: it must be greater than 0")
        floor = self._size() * float(torch.tensor(damping, dtype=torch.float64).log())
        if self._size() <= SMALL:
            return floor + float((self.eigenvalues() / damping).log1p().sum())
        return floor + self._trace_of(lambda x: (x / damping).log1p(), 0.01)

    def eigenvalues(self) -> Tensor:
        """All, in float64, from the dense matrix; InputError for more than 4096 parameters."""
        return torch.linalg.eigvalsh(self.to_dense()).flip(0).clamp_(min=0.0)

    def largest_eigenvalue(self) -> float:
        """By Lanczos iteration, to 1e-4 of itself."""
        return lanczos.largest(self._product, torch.randn(self._size(), generator=_generator()).to(self._like()), 1e-4)

    def sample(self, n: int, damping: float, seed: int = 0) -> dict[str, Tensor]:
        """(F + damping)^(-1/2) z in the Krylov space of F and z, until a step changes a draw by less than 1e-4 of it.

        Raises:
            InputError: the damping is not positive, or too small for 500 products with F.
        """
        if damping <= 0:
            raise InputError(f"damping={damping} is out of range: it must be greater than 0")
        generator = torch.Generator().manual_seed(seed)
        draws = []
        for _ in range(n):
            z = torch.randn(self._size(), generator=generator, dtype=self._like().dtype).to(self._like().device)
            draws.append(lanczos.function_times(self._product, z, lambda x: (x + damping).rsqrt(), 1e-4))
        drawn = [self._named(draw) for draw in draws]
        return {name: torch.stack([draw[name] for draw in drawn]) for name in self.sizes}

    def to_dense(self) -> Tensor:
        """In float64; InputError for more than 4096 parameters."""
        size = self._size()
        if size > SMALL:
            raise InputError(
                f"an implicit Fisher of {size} parameters is not made dense (at most {SMALL}): largest_eigenvalue, mv "
                "and quadratic do without"
            )
        first, total = _positions(self.sizes), torch.zeros(size, size, dtype=torch.float64)
        for data, factor in self.terms:
            where = torch.cat([_corner(first[n], p.shape).flatten() for n, p in data.parameters().items()])
            total[where[:, None], where] += factor * data.dense().to(total)
        return total.to(self._like().device) if self._like().device.type != "mps" else total

    def _plus(self, other: Self) -> Self:
        return type(self)(self.terms + other.terms, self.sizes, info=self.info)

    def _times(self, factor: float) -> Self:
        return type(self)(tuple((data, f * factor) for data, f in self.terms), self.sizes, info=self.info)

    def grown(self, like: Parameters) -> Self:
        """The outputs of the old model do not depend on what is new."""
        return type(self)(self.terms, {name: p.shape for name, p in like.items()}, info=self.info)

    def to(self, like: Parameters) -> Self:
        """Models and data moved."""
        first = next((like[name] for name in self.sizes if name in like), None)
        if first is None:
            return self
        return type(self)(tuple((data.to(first), f) for data, f in self.terms), self.sizes, info=self.info)

    def tensors(self) -> dict[str, Tensor]:
        """Not possible: it would be the old data."""
        raise InputError("an implicit Fisher is its old data and cannot be stored: choose another fisher/structure")

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], info: Mapping[str, Any], form: Mapping[str, Any]) -> Self:  # noqa: ARG003
        """There are none."""
        raise InputError("an implicit Fisher is its old data and cannot be read from a file")

    def shapes(self) -> dict[str, torch.Size]:
        """Without a pass over the data."""
        return dict(self.sizes)

    @property
    def bytes(self) -> int:
        """Memory held: models, inputs and columns."""
        return sum(data.bytes for data, _ in self.terms)

    def _check(self, vector: Parameters) -> None:
        for name, shape in self.sizes.items():
            entry(vector, name, shape)

    def _summed(self, of: Callable[[Kept], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Over terms, zero where none of them knows a parameter."""
        like = self._like()
        total = {name: like.new_zeros(shape) for name, shape in self.sizes.items()}
        for data, factor in self.terms:
            for name, t in of(data).items():
                _corner(total[name], t.shape).add_(t, alpha=factor)
        return total

    def _product(self, vector: Tensor) -> Tensor:
        return _flat(self.mv(self._named(vector)), self.sizes)

    def _named(self, vector: Tensor) -> dict[str, Tensor]:
        parts = vector.split([shape.numel() for shape in self.sizes.values()])
        return {name: part.view(shape) for part, (name, shape) in zip(parts, self.sizes.items(), strict=True)}

    def _trace_of(self, function: Callable[[Tensor], Tensor], tolerance: float) -> float:
        return lanczos.trace_of(self._product, self._like().new_empty(self._size()), function, tolerance, _generator())

    def _like(self) -> Tensor:
        return next(iter(self.terms[0][0].parameters().values())).detach()

    def _size(self) -> int:
        return sum(shape.numel() for shape in self.sizes.values())


def _corner(tensor: Tensor, shape: torch.Size) -> Tensor:
    """The part of a grown tensor that was there before."""
    return tensor[tuple(slice(n) for n in shape)]


def _corners(vector: Parameters, data: Kept) -> dict[str, Tensor]:
    return {name: _corner(vector[name], p.shape).to(p) for name, p in data.parameters().items()}


def _flat(named: Parameters, order: Mapping[str, Any]) -> Tensor:
    return torch.cat([named[name].flatten() for name in order])


def _positions(sizes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """Rows of the dense matrix, in the shape of each parameter."""
    counts = [shape.numel() for shape in sizes.values()]
    rows = torch.arange(sum(counts)).split(counts)
    return {name: part.view(shape) for part, (name, shape) in zip(rows, sizes.items(), strict=True)}


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


class ImplicitAccumulator(Accumulator):
    """Keeps the batches, and the model as it was."""

    keeps_data: ClassVar[bool] = True

    def __init__(self, model: nn.Module, parameters: Mapping[str, Tensor]) -> None:
        self._model, self._parameters = model, parameters
        self._batches: list[tuple[Batch, Tensor]] = []
        self._last: Batch | None = None
        self._count = torch.zeros(1, device=next(iter(parameters.values())).device)

    def add_batch(self, batch: Batch, columns: Tensor) -> None:
        """Kept; the columns hold the root of the examples' weights already."""
        if self._last is batch:  # more columns of the same examples
            kept_batch, before = self._batches[-1]
            self._batches[-1] = kept_batch, torch.cat([before, columns.detach()])
            return
        self._last = batch
        self._batches.append((replace(batch, inputs=batch.copied_inputs()), columns.detach().clone()))

    def sums(self) -> list[Tensor]:
        """How many examples are kept here: if others add to that, each process has a part of the data only."""
        self._count.fill_(self._kept())
        return [self._count]

    def finish(self, n_examples: float, info: Mapping[str, Any]) -> Implicit:
        """Of a copy of the model.

        Raises:
            InputError: the data is dealt out over processes, or the model cannot be differentiated in the ways needed.
        """
        self._last = None
        if float(self._count) != self._kept():
            raise InputError("an implicit Fisher keeps its data in one process: do without distributed=True")
        data = kept(self._model, self._parameters, tuple(self._batches), n_examples)
        return Implicit(((data, 1.0),), {name: p.shape for name, p in self._parameters.items()}, info=dict(info))

    def _kept(self) -> int:
        return sum(columns.shape[1] for _, columns in self._batches)


class ImplicitStructure(Structure):
    """Keep the data instead of a matrix: an oracle, not continual learning without storing examples."""

    def accumulator(self, model: nn.Module, parameters: Mapping[str, nn.Parameter]) -> ImplicitAccumulator:
        """Nothing kept yet."""
        return ImplicitAccumulator(model, parameters)
