import pytest
from torchvision import datasets

from cl_fisher.dataset.n_classes import n_classes
from cl_fisher.dataset.vision import N_CLASSES


@pytest.mark.parametrize(
    ("table", "options", "wanted"),
    [
        (10, {}, 10),
        (None, {"name": "A"}, None),
        ({"name": {"A": 3, "B": 4}}, {"name": "B", "size": 3}, 4),
        ({"name": {"A": 3, "B": 4}}, {"name": "C"}, None),
        ({"name": {"A": 3}}, {}, None),
        ({"name": {"A": {"split": {"x": 5}}}}, {"name": "A", "split": "x"}, 5),
        ({"name": {"A": {"split": {"x": 5}}}}, {"name": "A", "split": "y"}, None),
    ],
)
def test_lookup(table, options, wanted):
    assert n_classes(table, options) == wanted


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST", "KMNIST"])
def test_as_torchvision_says(name):
    assert n_classes(N_CLASSES, {"name": name}) == len(getattr(datasets, name).classes)
