"""Wrong labels, on purpose (symmetric noise: Zhang et al. 2017, "Understanding deep learning", sec. 2.1)."""

from dataclasses import replace

import torch

from cl_fisher.bounds import Index, UnitInterval, checked
from cl_fisher.dataset.examples import DataSet
from cl_fisher.error import InputError
from cl_fisher.seeding import generator


@checked
def label_noise(dataset: DataSet, fraction: UnitInterval, seed: Index) -> DataSet:
    """The same data, with `fraction` of the training labels, rounded, replaced by another class, each equally likely.

    Which ones depends on the seed and the number of examples alone. Test labels stay right; validation examples are
    held out of the training data later, so they have wrong labels too. benchmark=split deals out by the labels as they
    are now. Fraction 0 changes nothing.
    """
    size = len(dataset.train)
    wrong = round(fraction * size)
    if wrong == 0:
        return dataset
    if dataset.n_classes < 2:
        raise InputError(f"label_noise={fraction:g}: the data have one class, so there is no other label")
    draw = generator(seed, "label_noise")
    which = torch.randperm(size, generator=draw)[:wrong]
    shift = torch.randint(1, dataset.n_classes, (wrong,), generator=draw)
    targets = dataset.train.targets.clone()
    targets[which] = (targets[which] + shift) % dataset.n_classes
    return replace(dataset, train=replace(dataset.train, targets=targets))
