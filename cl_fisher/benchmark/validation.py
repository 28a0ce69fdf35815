"""Which training examples are held out for validation."""

import torch

from cl_fisher.bounds import Fraction, Index, checked
from cl_fisher.dataset.examples import Examples
from cl_fisher.seeding import generator


@checked
def hold_out(train: Examples, fraction: Fraction, seed: Index) -> tuple[Examples, Examples]:
    """Split into training and validation examples, each in the old order; depends on data, fraction and seed only.

    Drawn class by class: `fraction` of each class, rounded, but at least one example and never all of them (a class
    with a single example keeps it for training). Fraction 0 leaves the validation set empty.
    """
    held = torch.zeros(len(train), dtype=torch.bool)
    draw = generator(seed, "validation")
    for label in train.targets.unique() if fraction > 0 else ():
        members = (train.targets == label).nonzero().flatten()
        wanted = min(max(round(fraction * len(members)), 1), len(members) - 1)
        held[members[torch.randperm(len(members), generator=draw)[:wanted]]] = True
    return train.subset((~held).nonzero().flatten()), train.subset(held.nonzero().flatten())
