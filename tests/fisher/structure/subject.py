"""What a Fisher matrix under test is, and the dense algebra that it is compared with."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cl_fisher.fisher import FisherMatrix


@dataclass(frozen=True)
class Subject:
    """Two matrices in float64, of one structure and over the same parameters, and what they are as dense ones."""

    fisher: FisherMatrix
    dense: Tensor
    other: FisherMatrix
    other_dense: Tensor
    tolerance: float = 1e-10
    """Relative, in Euclidean norm."""

    def vector(self, seed: int = 0) -> dict[str, Tensor]:
        return randomly(self.fisher.shapes(), seed)

    def dampings(self) -> list[float]:
        """One that is felt by all eigenvalues, and one that leaves the matrix ill-conditioned."""
        scale = float(self.dense.trace()) / len(self.dense)
        return [0.3 * scale, 1e-4 * scale]

    def damped(self, damping: float) -> Tensor:
        return self.dense + damping * torch.eye(len(self.dense), dtype=torch.float64)


def randomly(shapes, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for name, shape in shapes.items()
    }


def flat(named):
    return torch.cat([t.flatten() for t in named.values()])


def close(actual, expected, tolerance):
    actual, expected = (torch.as_tensor(t, dtype=torch.float64) for t in (actual, expected))
    assert actual.shape == expected.shape
    error, size = float((actual - expected).norm()), float(expected.norm())
    assert error <= tolerance * size, f"off by {error:.3g}, where {tolerance * size:.3g} is allowed"


def largest(dense):
    return float(torch.linalg.eigvalsh(dense)[-1])


def form(dense, x):
    return x @ dense @ x


def grown_shape(shapes):
    """More rows, and two new parameters: one first and one within."""
    larger = {"new.first": torch.Size([2, 2])}
    for i, (name_, shape) in enumerate(shapes.items()):
        larger[name_] = torch.Size([n + 2 if dim == 0 else n for dim, n in enumerate(shape)])
        if i == 0:
            larger["new.second"] = torch.Size([3])
    return larger


def wider_shape(shapes):
    """Every dimension larger."""
    return {name_: torch.Size([n + 1 for n in shape]) for name_, shape in shapes.items()}


def positions(old, new):
    """Where each entry of the old parameters is among the flattened new ones, one by one."""
    found, first = {}, 0
    for name_, shape in new.items():
        found[name_] = torch.arange(first, first + shape.numel()).reshape(shape)
        first += shape.numel()
    return torch.cat([found[name_][tuple(slice(n) for n in shape)].flatten() for name_, shape in old.items()])
