"""Named parameters as a vector."""

import torch

from cl_fisher.fisher.structure.coordinates import Coordinates


def test_there_and_back():
    values = {"a": torch.randn(2, 5, 2, 3), "s": torch.randn(2, 5), "b": torch.randn(2, 5, 4)}
    coordinates = Coordinates({"a": torch.Size([2, 3]), "s": torch.Size([]), "b": torch.Size([4])})
    vectors = coordinates.flat(values, n_leading=2)
    assert vectors.shape == (2, 5, coordinates.size) == (2, 5, 11)
    assert all(torch.equal(t, values[name]) for name, t in coordinates.named(vectors).items())
    assert Coordinates.from_form(coordinates.form()).shapes == coordinates.shapes


def test_places_of_old_weights_among_more():
    old = Coordinates({"a": torch.Size([2, 2]), "b": torch.Size([1])})
    new = Coordinates({"b": torch.Size([2]), "c": torch.Size([]), "a": torch.Size([2, 3])})
    assert old.places(new).tolist() == [3, 4, 6, 7, 0]
