"""Which training examples are held out for validation."""

from cl_fisher.bounds import Fraction, Index, checked
from cl_fisher.dataset.examples import Examples
from cl_fisher.dataset.stratified import stratified
from cl_fisher.seeding import generator


@checked
def hold_out(train: Examples, fraction: Fraction, seed: Index) -> tuple[Examples, Examples]:
    """Split into training and validation examples, each in the old order; depends on data, fraction and seed only.

    Drawn class by class: `fraction` of each class, rounded, but at least one example and never all of them (a class
    with a single example keeps it for training). Fraction 0 leaves the validation set empty.
    """
    held = stratified(train.targets, fraction, generator(seed, "validation"))
    return train.subset((~held).nonzero().flatten()), train.subset(held.nonzero().flatten())
