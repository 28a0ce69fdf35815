"""Kronecker factors where there are any, the diagonal elsewhere: each as its own structure has it."""

import pytest
import torch
from torch import nn

from cl_fisher.error import InputError
from cl_fisher.fisher import estimate_fisher, load_fisher
from cl_fisher.fisher.capture import LINEAR
from cl_fisher.fisher.rule.linear import LinearRule
from cl_fisher.fisher.rule.rule import LayerUse
from cl_fisher.fisher.structure.diagonal import Diagonal
from cl_fisher.fisher.structure.ekfac import EkfacAccumulator
from cl_fisher.fisher.structure.ekfac_matrix import Ekfac
from cl_fisher.fisher.structure.kronecker import KroneckerAccumulator
from cl_fisher.fisher.structure.kronecker_matrix import Kronecker
from cl_fisher.fisher.structure.mixed import MixedAccumulator, MixedStructure
from tests.fisher.structure.contract import CHECKS, name
from tests.fisher.structure.networks import Softmax, block_of, by_definition, data, in_batches
from tests.fisher.structure.subject import Subject, close


class Scaled(nn.Module):
    """Two linear layers, a norm, a weight that is no layer's, and a head that is not used."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last, self.unused = (
            nn.Linear(4, 5),
            nn.LayerNorm(5),
            nn.Linear(5, 3),
            nn.Linear(5, 2),
        )
        self.scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, x):
        return self.last(self.norm(self.first(x)).tanh()) * self.scale


def network(seed=0):
    torch.manual_seed(seed)
    return Scaled().double()


def estimated(structure, size=3, seed=1, n=7):
    x, y = data(n, 4, seed=seed)
    return estimate_fisher(network(), in_batches(x, y, size), structure=structure)


@pytest.mark.parametrize(("matrix", "kind"), [("kronecker", Kronecker), ("ekfac", Ekfac)])
def test_parts_are_those_of_other_structures(matrix, kind):
    fisher, diagonal = estimated(MixedStructure(matrix)), estimated("diagonal").diagonal()
    model, (x, _) = network(), data(7, 4, seed=1)
    dense = by_definition(model, x, Softmax())
    assert list(fisher.shapes()) == [key for key, _ in model.named_parameters()]
    layers = [block for block in fisher.blocks if isinstance(block, kind)]
    assert sorted(key for block in layers for key in block.shapes()) == [
        "first.bias", "first.weight", "last.bias", "last.weight",
    ]  # fmt: skip
    for block in fisher.blocks:
        if isinstance(block, Diagonal):
            for key, entries in block.entries.items():
                close(entries, diagonal[key], 1e-12)
        elif matrix == "ekfac":
            close(block.trace(), block_of(dense, model, block.shapes()).trace(), 1e-10)
    assert float(fisher.diagonal()["scale"]) > 0
    assert float(fisher.diagonal()["norm.weight"].sum()) > 0
    assert not fisher.diagonal()["unused.weight"].any()


def test_linear_layers_alone_are_as_without_mixing():
    torch.manual_seed(0)
    model, (x, y) = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double(), data(7, 4)
    for matrix in ("kronecker", "ekfac"):
        mixed, plain = (estimate_fisher(model, [(x, y)], structure=s) for s in (MixedStructure(matrix), matrix))
        close(mixed.to_dense(), plain.to_dense(), 1e-12)


@pytest.mark.parametrize("matrix", ["kronecker", "ekfac"])
def test_batches_of_any_size(matrix):
    whole, parts = (estimated(MixedStructure(matrix), size) for size in (7, 2))
    close(whole.to_dense(), parts.to_dense(), 1e-10)


@pytest.mark.parametrize("matrix", ["kronecker", "ekfac"])
@pytest.mark.parametrize("check", CHECKS, ids=name)
def test_contract(check, matrix):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2)).double()
    a, b = (
        estimate_fisher(model, [data(9, 3, classes=2, seed=seed)], structure=MixedStructure(matrix)) for seed in (1, 2)
    )
    if check.__name__ == "growth_by_nothing":
        assert [block.kind for block in a.blocks] == [matrix, matrix, "diagonal", "diagonal"]
    check(Subject(a, a.to_dense(), b, b.to_dense(), 1e-9))


def test_file(tmp_path):
    fisher = estimated("mixed")
    fisher.save(tmp_path / "f.safetensors")
    loaded = load_fisher(tmp_path / "f.safetensors")
    assert torch.equal(loaded.to_dense(), fisher.to_dense())
    assert loaded.info == fisher.info


def test_now_a_matrix_and_now_not():
    layer, (x, _), (g, _) = nn.Linear(4, 3).double(), data(5, 4), data(5, 3, seed=2)
    parameters = dict(layer.named_parameters())
    accumulator = MixedAccumulator(parameters, KroneckerAccumulator(parameters, "expand", 1))
    use = LayerUse({"weight": "weight", "bias": "bias"}, layer, LINEAR, x, ())
    accumulator.add_inputs(use, None)
    accumulator.add_layer(use, [g])
    accumulator.add_gradients({"bias": torch.zeros(1, 5, 3, dtype=torch.float64)})
    accumulator.finish(5, {})
    accumulator.add_gradients({"bias": g[None]})
    with pytest.raises(InputError, match="bias multiplies its input as a matrix in some batches"):
        accumulator.finish(5, {})


class NoMatrix(LinearRule):
    """Stands for the rule of a norm, say."""

    def is_matrix(self, module):  # noqa: ARG002
        return False


def test_layers_that_are_no_matrix():
    """By their rule or by gradients, now this and now that; in the first of two passes only."""
    layer, (x, _), (g, _) = nn.Linear(4, 3).double(), data(5, 4), data(5, 3, seed=2)
    parameters = dict(layer.named_parameters())
    names = {"weight": "weight", "bias": "bias"}
    accumulator = MixedAccumulator(parameters, EkfacAccumulator(parameters, "expand"))
    for again in (True, False):
        use = LayerUse(names, layer, NoMatrix(), x[:3], ())
        assert accumulator.takes(use)
        accumulator.add_inputs(use, None)
        accumulator.add_layer(use, [g[:3]])
        weight = g[3:, :, None] * x[3:, None]
        accumulator.add_gradients({"weight": weight[None], "bias": g[None, 3:]})
        assert accumulator.next_pass(5) is again
    fisher = accumulator.finish(5, {})
    close(fisher.diagonal()["weight"], g.square().T @ x.square() / 5, 1e-12)
    close(fisher.diagonal()["bias"], g.square().sum(0) / 5, 1e-12)


@pytest.mark.parametrize("options", [{"matrix": "dense"}, {"sharing": "some"}, {"rank": 0}])
def test_wrong_options(options):
    with pytest.raises(InputError, match=next(iter(options))):
        MixedStructure(**options)
