"""Where the parameters of one layer are in the matrix [O, K] that it multiplies its input by."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from cl_fisher.error import InputError
from cl_fisher.fisher.rule.rule import LayerUse
from cl_fisher.fisher.structure.matrix import entry


@dataclass(frozen=True)
class WeightMatrix:
    """The weight, flattened to [O, k], and the bias as one more column, whose input is always 1: [O, K].

    Only what is trainable is in it: K is k + 1, k, or 1 for a bias alone.
    """

    weight: str | None
    """Its name in the model; None if it is not trainable."""
    bias: str | None
    shape: tuple[int, ...]
    """Of the weight; (O,) without one."""

    @classmethod
    def of(cls, use: LayerUse) -> Self:
        """Of a layer that `Rule.is_matrix` is true of."""
        if strangers := use.names.keys() - {"weight", "bias"}:
            name = use.names[min(strangers)]
            raise InputError(f"{name} is neither the weight nor the bias of its layer, so it has no Kronecker form")
        weight, bias = use.names.get("weight"), use.names.get("bias")
        return cls(weight, bias, tuple(getattr(use.module, "bias" if weight is None else "weight").shape))

    @property
    def rows(self) -> int:
        """O."""
        return self.shape[0]

    @property
    def n_weights(self) -> int:
        """Columns of the weight; 0 if it is not trainable."""
        return math.prod(self.shape[1:]) if self.weight is not None else 0

    @property
    def columns(self) -> int:
        """K."""
        return self.n_weights + (self.bias is not None)

    def shapes(self) -> dict[str, torch.Size]:
        """Of the parameters, the weight first."""
        found = {} if self.weight is None else {self.weight: torch.Size(self.shape)}
        return found | ({} if self.bias is None else {self.bias: torch.Size(self.shape[:1])})

    def join(self, named: Mapping[str, Tensor]) -> Tensor:
        """Tensors [..., *shape] by the parameters' names as matrices [..., O, K]."""
        parts = []
        if self.weight is not None:
            n_leading = max(0, named[self.weight].dim() - len(self.shape)) if self.weight in named else 0
            w = entry(named, self.weight, self.shape, n_leading)
            lead = w.shape[:n_leading]
            parts.append(w.reshape(*lead, self.rows, self.n_weights))
        if self.bias is not None:
            n_leading = max(0, named[self.bias].dim() - 1) if self.bias in named else 0
            parts.append(entry(named, self.bias, self.shape[:1], n_leading)[..., None])
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)

    def split(self, matrices: Tensor) -> dict[str, Tensor]:
        """Undo `join`."""
        found, lead = {}, matrices.shape[:-2]
        if self.weight is not None:
            found[self.weight] = matrices[..., : self.n_weights].reshape(*lead, *self.shape)
        if self.bias is not None:
            found[self.bias] = matrices[..., -1]
        return found

    def order(self) -> Tensor:
        """Where each entry of the flattened parameters, one after the other, is in the flattened matrix: [O * K]."""
        places = torch.arange(self.rows * self.columns).reshape(self.rows, self.columns)
        return torch.cat([t.flatten() for t in self.split(places).values()])

    def grown(self, like: Mapping[str, Tensor]) -> tuple[Self, Tensor]:
        """Of larger parameters, and the columns [K] of it where the old ones are; old rows come first."""
        shape = next(like[name].shape for name in (self.weight, self.bias) if name is not None)
        larger = type(self)(self.weight, self.bias, tuple(shape))
        places = torch.arange(larger.n_weights).reshape(shape[1:] if self.weight is not None else (0,))
        kept = places[tuple(slice(n) for n in self.shape[1:])].flatten()[: self.n_weights]
        return larger, torch.cat([kept, torch.arange(larger.n_weights, larger.columns)])

    def form(self) -> dict[str, Any]:
        """As plain values."""
        return {"weight": self.weight, "bias": self.bias, "shape": list(self.shape)}

    @classmethod
    def from_form(cls, form: Mapping[str, Any]) -> Self:
        """Undo `form`."""
        return cls(form["weight"], form["bias"], tuple(form["shape"]))
