"""Following the examples through a graph: what is trusted, and how long it takes. What it is for: test_rows.py."""

import pytest
import torch
from torch import nn

from cl_fisher.fisher.place import stay

N, WIDTH = 3, 5


def inputs():
    return torch.randn(N, WIDTH, generator=torch.Generator().manual_seed(0))


def test_a_deep_residual_network_is_followed_once():
    """Every block doubles the paths through the graph: one that followed each of them would never end."""
    layers = [nn.Linear(WIDTH, WIDTH) for _ in range(200)]
    x = inputs()
    for layer in layers:
        x = x + layer(x).tanh()
    assert stay(x)
    assert not stay(x.cumsum(0))  # not known


def test_deep_weights_are_followed_once():
    weight = nn.Parameter(torch.eye(WIDTH))
    deep = weight
    for _ in range(200):
        deep = deep + deep.tanh()
    assert stay(inputs() @ deep)
    assert not stay(inputs() @ deep.cumsum(0))


@pytest.mark.parametrize(
    "looked_up",
    [lambda table, rows: nn.functional.embedding(rows, table), lambda table, rows: table[rows]],
    ids=["embedding", "index"],
)
def test_what_the_data_picks_from_a_table_is_no_parameter(looked_up):
    table, layer = nn.Parameter(torch.randn(7, WIDTH)), nn.Linear(WIDTH, WIDTH)
    rows = torch.tensor([4, 0, 2])
    assert not stay(layer(inputs()) @ looked_up(table, rows).T)
    assert stay(layer(inputs()) @ table.T)
