"""The handwritten digits that scikit-learn carries: 1,797 grey images of 8x8 pixels (UCI, Alpaydin & Kaynak 1998)."""

from functools import cache

import numpy as np
import torch
from sklearn.datasets import load_digits

from cl_fisher.dataset.examples import DataSet, Examples

N_CLASSES = 10


@cache
def digits() -> DataSet:
    """1,437 training and 360 test images, uint8 [N, 1, 8, 8] with values 0 to 16.

    Nothing is drawn: the images are sorted by class (in their original order within a class) and every fifth, from the
    first on, is a test image. So the split is the same for every seed, with 35 to 37 test images of each class.
    """
    bunch = load_digits()
    source = torch.from_numpy(bunch.images.astype(np.uint8)).unsqueeze(1)
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    by_class = labels.argsort(stable=True)
    tested = torch.zeros(len(labels), dtype=torch.bool)
    tested[by_class[::5]] = True

    def part(mask: torch.Tensor) -> Examples:
        return Examples(source, mask.nonzero().flatten(), labels[mask], scale=16.0)

    return DataSet(train=part(~tested), test=part(tested), n_classes=N_CLASSES)
