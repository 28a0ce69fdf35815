"""A share of each class, drawn at random."""

import torch
from torch import Tensor


def stratified(targets: Tensor, fraction: float, draw: torch.Generator) -> Tensor:
    """Which examples are drawn, bool [N], given their labels, int64 [N].

    `fraction` of each class, rounded, but at least one example and never all of them (a class with a single example
    keeps it). Fraction 0 draws none.
    """
    drawn = torch.zeros(len(targets), dtype=torch.bool)
    for label in targets.unique() if fraction > 0 else ():
        members = (targets == label).nonzero().flatten()
        wanted = min(max(round(fraction * len(members)), 1), len(members) - 1)
        drawn[members[torch.randperm(len(members), generator=draw)[:wanted]]] = True
    return drawn
