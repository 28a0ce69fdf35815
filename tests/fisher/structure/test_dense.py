"""The dense matrix, beyond the contract."""

import math

import pytest
import torch
from torch import nn

from cl_fisher.error import InputError
from cl_fisher.fisher import estimate_fisher
from cl_fisher.fisher.reference import brute_force
from cl_fisher.fisher.structure.coordinates import Coordinates
from cl_fisher.fisher.structure.dense import Dense, DenseStructure

BATCHES = [(torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.zeros(6, dtype=torch.long))]


def test_too_many_weights_are_refused_before_any_data_is_read():
    with pytest.raises(InputError, match=r"the network has 10,100 weights.* 0\.9 GB: fisher/structure=kronecker"):
        estimate_fisher(nn.Linear(100, 100), iter([]), structure="dense")
    with pytest.raises(InputError, match="above 14"):
        estimate_fisher(nn.Linear(4, 3), BATCHES, structure=DenseStructure(limit=14))
    assert estimate_fisher(nn.Linear(4, 3), BATCHES, structure=DenseStructure(limit=15)).to_dense().shape == (15, 15)


def test_rounding_to_32_bits_makes_no_negative_eigenvalues():
    generator = torch.Generator().manual_seed(0)
    factor = torch.randn(3, 40, generator=generator)
    matrix = factor.T @ factor
    assert float(torch.linalg.eigvalsh(matrix.double())[0]) < 0
    fisher = Dense(matrix, Coordinates({"w": torch.Size([40])}))
    assert float(fisher.eigenvalues()[-1]) == 0.0
    assert math.isfinite(fisher.logdet(1e-12))
    assert fisher.sample(2, 1e-12)["w"].isfinite().all()


def test_a_sum_needs_the_same_parameters_in_any_order():
    a, b = torch.Size([2]), torch.Size([3])
    one = Dense(torch.eye(5), Coordinates({"a": a, "b": b}))
    two = Dense(torch.diag(torch.arange(5.0)), Coordinates({"b": b, "a": a}))
    assert torch.equal((one + two).to_dense().diagonal(), torch.tensor([4.0, 5.0, 1.0, 2.0, 3.0]))
    with pytest.raises(InputError, match="differ in parameter b, one without it"):
        Dense(torch.eye(2), Coordinates({"a": a})) + one
    with pytest.raises(InputError, match="may grow, not shrink"):
        one.grown({"a": torch.zeros(1), "b": torch.zeros(3)})


def test_a_network_of_32_bits():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    fisher = estimate_fisher(model, BATCHES, structure="dense")
    assert fisher.matrix.dtype == torch.float32
    assert not fisher.matrix.requires_grad
    torch.testing.assert_close(fisher.to_dense(), brute_force(model, BATCHES[0][0]).float(), rtol=1e-5, atol=1e-7)
