"""Kronecker products per layer, against the dense matrix that they stand for and the Fisher that they approximate."""

import pytest
import torch
from torch import nn

from cl_fisher.fisher.structure.direct_sum import DirectSum
from cl_fisher.fisher.structure.kronecker_matrix import Kronecker
from cl_fisher.fisher.structure.weight_matrix import WeightMatrix
from tests.fisher.structure.contract import CHECKS, Subject, name

PLACES = {
    "weight and bias": WeightMatrix("w", "b", (3, 4)),
    "no bias": WeightMatrix("w", None, (3, 2)),
    "convolution": WeightMatrix("w", "b", (2, 2, 1, 2)),
    "bias alone": WeightMatrix(None, "b", (4,)),
}


def moment(size, generator, examples=20):
    x = torch.randn(examples, size, generator=generator, dtype=torch.float64)
    return x.T @ x / examples


def matrix(place, seed, rank=1, terms=1):
    generator = torch.Generator().manual_seed(seed)
    g = torch.stack([moment(place.rows, generator) for _ in range(terms)])
    a = torch.stack([moment(place.columns, generator) for _ in range(terms)])
    return Kronecker(place, g, a, rank, info={"samples": 5})


def entry_by_entry(fisher):
    """F[(o, k), (p, q)] = sum_t G[o, p] A[k, q], where a weight's k is its place in the flattened rest."""
    place = fisher.place
    where = [(o, k) for o in range(place.rows) for k in range(place.n_weights)] if place.weight else []
    where += [(o, place.columns - 1) for o in range(place.rows)] if place.bias else []
    g, a = fisher.outputs, fisher.inputs
    return torch.stack([torch.stack([(g[:, o, p] * a[:, k, q]).sum() for p, q in where]) for o, k in where])


def alone(block):
    """As an estimate has it: one of many blocks, so that new parameters have a place."""
    return DirectSum((block,), tuple(block.shapes()), info=block.info)


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize(("rank", "terms"), [(1, 1), (None, 1), (2, 2), (3, 3)])
@pytest.mark.parametrize("check", CHECKS, ids=name)
def test_contract(check, rank, terms, place):
    if rank is None and "merge" in check.__name__:
        pytest.skip("rank=None keeps every term")
    a, b = (matrix(place, seed, rank, terms) for seed in (0, 1))
    check(Subject(alone(a), entry_by_entry(a), alone(b), entry_by_entry(b)))
