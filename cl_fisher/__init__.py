"""Continual learning with elastic weight consolidation and a Fisher information that is right.

Importing the package loads neither torch nor Lightning: the public names are resolved on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cl_fisher.strategy.ewc import EWC
    from cl_fisher.strategy.online_ewc import OnlineEWC
    from cl_fisher.training.callback import EWCCallback

__version__ = "0.1.0"
__all__ = ["EWC", "EWCCallback", "OnlineEWC", "__version__"]

_HOME = {
    "EWC": "cl_fisher.strategy.ewc",
    "EWCCallback": "cl_fisher.training.callback",
    "OnlineEWC": "cl_fisher.strategy.online_ewc",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'cl_fisher' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
