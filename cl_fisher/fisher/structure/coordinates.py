"""Named parameters as one long vector, and back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from cl_fisher.error import InputError
from cl_fisher.fisher.structure.matrix import Parameters, entry


@dataclass(frozen=True, eq=False)
class Coordinates:
    """The order of P weights: parameter by parameter, each flattened."""

    shapes: Mapping[str, torch.Size]

    @classmethod
    def of(cls, parameters: Parameters) -> Self:
        """Those of the parameters as they come."""
        return cls({name: p.shape for name, p in parameters.items()})

    @classmethod
    def from_form(cls, form: Mapping[str, Any]) -> Self:
        """Undo `form`."""
        return cls({name: torch.Size(shape) for name, shape in form.items()})

    def form(self) -> dict[str, list[int]]:
        """As JSON knows it."""
        return {name: list(shape) for name, shape in self.shapes.items()}

    @property
    def size(self) -> int:
        """P."""
        return sum(shape.numel() for shape in self.shapes.values())

    def flat(self, values: Parameters, n_leading: int = 0) -> Tensor:
        """[*leading, P] from entries [*leading, *shape]; names that are not ours are left out."""
        return torch.cat(
            [
                entry(values, name, shape, n_leading).reshape(*values[name].shape[:n_leading], shape.numel())
                for name, shape in self.shapes.items()
            ],
            -1,
        )

    def named(self, vectors: Tensor) -> dict[str, Tensor]:
        """Entries [*leading, *shape] from [*leading, P]."""
        parts = vectors.split([shape.numel() for shape in self.shapes.values()], -1)
        return {
            name: part.reshape(vectors.shape[:-1] + shape)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }

    def places(self, among: "Coordinates") -> Tensor:
        """Where each of our weights is among others, which may be more and in another order: int64 [P].

        Raises:
            InputError: a parameter that they do not have, or have smaller.
        """
        numbered = among.named(torch.arange(among.size))
        found = []
        for name, shape in self.shapes.items():
            if name not in numbered:
                raise InputError(f"a Fisher with parameter {name} meets one without it")
            part = numbered[name][tuple(slice(n) for n in shape)]
            if part.shape != shape:
                raise InputError(
                    f"parameter {name} has shape {tuple(numbered[name].shape)}, but a Fisher is over {tuple(shape)}: "
                    "it may grow, not shrink"
                )
            found.append(part.flatten())
        return torch.cat(found)
