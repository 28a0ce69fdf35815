"""The Fisher information matrix of a network: estimated, kept, and put to use. Plain torch, usable alone."""

from cl_fisher.fisher.estimate import estimate_fisher
from cl_fisher.fisher.storage import load_fisher
from cl_fisher.fisher.structure.matrix import FisherMatrix

__all__ = ["FisherMatrix", "estimate_fisher", "load_fisher"]
