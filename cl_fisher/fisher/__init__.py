"""The Fisher information matrix of a network: estimated, kept, and put to use. Plain torch, usable alone.

Importing the package alone does not load torch: the public names are resolved on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cl_fisher.fisher.estimate import estimate_fisher
    from cl_fisher.fisher.storage import load_fisher
    from cl_fisher.fisher.structure.matrix import FisherMatrix

__all__ = ["FisherMatrix", "estimate_fisher", "load_fisher"]

_HOME = {
    "FisherMatrix": "cl_fisher.fisher.structure.matrix",
    "estimate_fisher": "cl_fisher.fisher.estimate",
    "load_fisher": "cl_fisher.fisher.storage",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'cl_fisher.fisher' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
