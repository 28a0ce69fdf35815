"""Dense blocks, beyond the contract."""

import pytest
import torch
from torch import nn

from cl_fisher.error import InputError
from cl_fisher.fisher import estimate_fisher
from cl_fisher.fisher.reference import brute_force
from cl_fisher.fisher.structure.block_diagonal import BlockDiagonalStructure


def batches(n=6):
    return [(torch.randn(n, 4, generator=torch.Generator().manual_seed(0)), torch.zeros(n, dtype=torch.long))]


def test_a_layer_that_is_too_large_is_named():
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 400), nn.Linear(400, 30))
    with pytest.raises(InputError, match=r"layer 2 has 12,030 weights.* 1\.2 GB: fisher/structure=kronecker or low"):
        estimate_fisher(model, iter([]), structure="block_diagonal")
    with pytest.raises(InputError, match="the network has 15 weights"):
        estimate_fisher(nn.Linear(4, 3), iter([]), structure=BlockDiagonalStructure(limit=14))


class HalfTied(nn.Module):
    """A shared weight, so that one layer has a bias of its own only; and two bare parameters in one block."""

    def __init__(self):
        super().__init__()
        self.scale, self.first, self.second = nn.Parameter(torch.rand(4)), nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.shift = nn.Parameter(torch.rand(()))

    def forward(self, x):
        return self.second(torch.tanh(self.first(self.scale * x + self.shift)))


def test_blocks_are_by_module_wherever_their_parameters_are():
    torch.manual_seed(0)
    model = HalfTied().double()
    x, y = batches()[0]
    fisher = estimate_fisher(model, [(x.double(), y)], structure="block_diagonal")
    names = [name for name, p in model.named_parameters() for _ in range(p.numel())]
    module = [name.rpartition(".")[0] for name in names]
    mask = torch.tensor([[a == b for a in module] for b in module])
    assert list(fisher.shapes()) == ["scale", "shift", "first.weight", "first.bias", "second.bias"]
    torch.testing.assert_close(fisher.to_dense(), brute_force(model, x.double()) * mask, rtol=1e-10, atol=1e-12)
