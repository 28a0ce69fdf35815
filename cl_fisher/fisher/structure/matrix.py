"""What every Fisher matrix can do, however it is kept."""

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from safetensors.torch import save_file
from torch import Tensor

from cl_fisher.error import InputError

Parameters = Mapping[str, Tensor]
"""A point or a direction in weight space: parameter name -> tensor of the parameter's shape."""


@dataclass(frozen=True, eq=False)
class FisherMatrix(ABC):
    """A symmetric positive semi-definite matrix over named parameters: the mean over examples of the Fisher.

    Operations on a singular F take a damping: F + damping * I.
    """

    kind: ClassVar[str]
    """The structure's name."""

    info: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    """Where it comes from: estimator, structure, samples, likelihood, seed."""
    standard_error: Mapping[str, Tensor] | None = field(default=None, kw_only=True)
    """Of each entry of the diagonal, if it was asked for."""

    @abstractmethod
    def mv(self, vector: Parameters) -> dict[str, Tensor]:
        """F v."""

    @abstractmethod
    def quadratic(self, delta: Parameters) -> Tensor:
        """delta^T F delta, a scalar tensor."""

    @abstractmethod
    def solve(self, vector: Parameters, damping: float) -> dict[str, Tensor]:
        """(F + damping I)^-1 v."""

    @abstractmethod
    def diagonal(self) -> dict[str, Tensor]:
        """The diagonal, per parameter."""

    @abstractmethod
    def trace(self) -> float:
        """Sum of the diagonal."""

    @abstractmethod
    def norm(self) -> float:
        """Frobenius norm."""

    @abstractmethod
    def logdet(self, damping: float) -> float:
        """Log det(F + damping I)."""

    @abstractmethod
    def eigenvalues(self) -> Tensor:
        """All eigenvalues, descending, [P]."""

    @abstractmethod
    def sample(self, n: int, damping: float, seed: int = 0) -> dict[str, Tensor]:
        """N draws from N(0, (F + damping I)^-1), each entry [n, *shape]."""

    @abstractmethod
    def to_dense(self) -> Tensor:
        """The matrix [P, P], parameters in their order, each flattened."""

    @abstractmethod
    def _plus(self, other: Self) -> Self:
        """Sum of two of the same structure."""

    @abstractmethod
    def _times(self, factor: float) -> Self:
        """F times a number that is not negative."""

    def __add__(self, other: Self) -> Self:
        if not isinstance(other, FisherMatrix):
            return NotImplemented
        self.check_alike(other)
        self.check_same_parameters(other)
        return self._plus(other)

    def __radd__(self, other: int) -> Self:
        """For `sum`, which begins with 0."""
        return self if other == 0 else NotImplemented

    def __mul__(self, factor: float) -> Self:
        if not (math.isfinite(factor) and factor >= 0):
            raise InputError(f"a Fisher times {factor}: a finite number is wanted, at least 0")
        return self._times(factor)

    def __rmul__(self, factor: float) -> Self:
        return self * factor

    def check_alike(self, other: "FisherMatrix") -> None:
        """Raise `InputError` if the other is of another structure."""
        if type(other) is not type(self):
            ours, theirs = (m.info.get("structure", m.kind) for m in (self, other))
            raise InputError(f"structures {ours} and {theirs} do not add up: estimate both Fishers with the same one")

    def check_same_parameters(self, other: "FisherMatrix") -> None:
        """Raise `InputError` if the other is over other parameters, or over some of another shape."""
        ours, theirs = self.shapes(), other.shapes()
        if strangers := [name for name in (*ours, *theirs) if ours.get(name) != theirs.get(name)]:
            name = strangers[0]
            shapes = " and ".join(f"of shape {tuple(s[name])}" if name in s else "without it" for s in (ours, theirs))
            raise InputError(f"two Fishers that differ in parameter {name}, one {shapes}, do not add up")

    def merged(self, other: Self) -> Self:
        """The sum in the memory of one: exact, or the best approximation with `info["merge_error"]` telling its error.

        The error is relative, in Frobenius norm, over all merges so far.
        """
        return self + other

    def bounded(self, linear: Parameters, constant: float) -> tuple[dict[str, Tensor], float]:
        """Linear and constant term with which x^T F x + 2 linear^T x + constant is bounded below by 0.

        They are the given ones where `merged` loses no direction: what belongs to the exact sum fits it then.
        """
        return dict(linear), constant

    def complete_square(
        self,
        centre: Parameters,  # noqa: ARG002
        other: Self,  # noqa: ARG002
        other_centre: Parameters,  # noqa: ARG002
    ) -> tuple[Self, dict[str, Tensor], float] | None:
        """(x-a)^T F (x-a) + (x-b)^T G (x-b) as (x-c)^T H (x-c) + k: the matrix H, its centre c and the constant k.

        None where finding c is not cheap and exact.
        """
        return None

    def add_product_(self, target: Parameters, delta: Parameters, factor: float) -> None:
        """Target += factor * F delta, in place: the gradient of a penalty."""
        for name, product in self.mv(delta).items():
            target[name].add_(product.to(target[name].dtype), alpha=factor)

    def largest_eigenvalue(self) -> float:
        """The largest eigenvalue."""
        values = self.eigenvalues()
        return float(values[0]) if len(values) else 0.0

    @abstractmethod
    def grown(self, like: Parameters) -> Self:
        """The same matrix over the parameters of `like`, which may be more or larger: zero for what is new."""

    @abstractmethod
    def to(self, like: Parameters) -> Self:
        """The same matrix where the parameters of `like` are, and as precise as they are, at least in 32 bits."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Everything that must be stored, under flat names."""

    def form(self) -> dict[str, Any]:
        """What else must be stored to undo `tensors`: plain values, as JSON knows them."""
        return {}

    @classmethod
    @abstractmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], info: Mapping[str, Any], form: Mapping[str, Any]) -> Self:
        """Undo `tensors` and `form`."""

    def shapes(self) -> dict[str, torch.Size]:
        """The parameters that the matrix is over, in order, and their shapes."""
        return {name: entry.shape for name, entry in self.diagonal().items()}

    def save(self, path: str | Path) -> None:
        """Write to a safetensors file with a JSON header, no pickle; `load_fisher` brings it back bit for bit.

        Raises:
            InputError: a matrix that cannot be stored (`implicit` is its data), no folder, or nothing but one.
        """
        if not Path(path).absolute().parent.is_dir():
            raise InputError(f"{path}: there is no folder {Path(path).parent}")
        if Path(path).is_dir():
            raise InputError(f"{path}: a folder; the name of a file is wanted")
        tensors = {name: t.detach().cpu().contiguous() for name, t in self.tensors().items()}
        about = {"kind": self.kind, "names": list(tensors), "form": self.form(), "info": dict(self.info)}
        error = {
            f"standard_error/{name}": t.detach().cpu().contiguous() for name, t in (self.standard_error or {}).items()
        }
        save_file(tensors | error, str(path), metadata={"cl_fisher": json.dumps(about)})

    @property
    def bytes(self) -> int:
        """Memory held."""
        return sum(t.numel() * t.element_size() for t in self.tensors().values())


def entry(named: Parameters, name: str, shape: tuple[int, ...], n_leading: int = 0) -> Tensor:
    """A parameter's part of a direction, or of several in `n_leading` dimensions before its own.

    Raises:
        InputError: it is missing, or not of the parameter's shape.
    """
    if name not in named:
        raise InputError(f"{name} is missing: a direction has a tensor for each parameter")
    if named[name].shape[n_leading:] != shape:
        raise InputError(f"the direction of {name} has shape {tuple(named[name].shape)}, the parameter {tuple(shape)}")
    return named[name]


def check_damping(damping: float) -> None:
    """Raise `InputError` if it is negative."""
    if not damping >= 0:
        raise InputError(f"damping={damping} is out of range: it must be at least 0")
