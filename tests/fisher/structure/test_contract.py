"""Every structure, as it comes from an estimate, through the one contract."""

import functools

import pytest
import torch
from torch import nn

from cl_fisher.error import InputError
from cl_fisher.fisher import estimate_fisher
from cl_fisher.fisher.estimate import STRUCTURES
from cl_fisher.fisher.reference import brute_force
from cl_fisher.fisher.structure.coordinates import Coordinates
from cl_fisher.fisher.structure.dense import Dense
from cl_fisher.fisher.structure.diagonal import Diagonal
from cl_fisher.fisher.structure.direct_sum import DirectSum
from cl_fisher.fisher.structure.low_rank import LowRank
from cl_fisher.fisher.structure.structure import Accumulator, Structure
from tests.fisher.structure import contract
from tests.fisher.structure.contract import CHECKS, name
from tests.fisher.structure.subject import Subject, close

TOLERANCE = {"implicit": 1e-7}  # relative, where float64 does not give 1e-10
CANNOT = {
    "implicit": {
        contract.draws,  # each is an iteration of its own: with the structure's own tests
        contract.file,
        contract.stored_form,
        contract.nothing_changes_it,
        contract.merge_takes_the_memory_of_one,
    }
}
"""What a structure does not do: the implicit one is its data."""


def mlp(bias=True):
    return nn.Sequential(nn.Linear(4, 5, bias), nn.Tanh(), nn.Linear(5, 3, bias))


def frozen():
    model = mlp()
    model[0].weight.requires_grad_(False)
    model[2].bias.requires_grad_(False)
    return model


def norms():
    return nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.Tanh(), nn.Linear(5, 3))


class Scaled(nn.Module):
    """Parameters without dimensions and of no layer."""

    def __init__(self):
        super().__init__()
        self.scale, self.shift, self.out = nn.Parameter(torch.rand(())), nn.Parameter(torch.rand(4)), nn.Linear(4, 3)

    def forward(self, x):
        return self.out(torch.tanh(self.scale * x + self.shift))


MODELS = {"mlp": mlp, "no_bias": functools.partial(mlp, False), "frozen": frozen, "layer_norm": norms, "scaled": Scaled}


def modules(model):
    """For each weight the number of its module."""
    named = [(n.rpartition(".")[0], p) for n, p in model.named_parameters() if p.requires_grad]
    return torch.cat([torch.full((p.numel(),), sorted({m for m, _ in named}).index(m)) for m, p in named])


TWINS = {
    "identity": lambda f, model: torch.eye(len(f), dtype=torch.float64),  # noqa: ARG005
    "diagonal": lambda f, model: f.diagonal().diag(),  # noqa: ARG005
    "block_diagonal": lambda f, model: f * (modules(model)[:, None] == modules(model)),
    "dense": lambda f, model: f,  # noqa: ARG005
    "implicit": lambda f, model: f,  # noqa: ARG005
}
"""What a structure keeps of the whole Fisher; others have tests of their own, and are checked against `to_dense`."""


@functools.cache
def data(seed):
    torch.manual_seed(100 + seed)
    return 2 * torch.randn(11, 4, dtype=torch.float64), torch.randint(3, (11,))


@functools.cache
def fisher(structure, kind, seed, size=4, order=None):
    torch.manual_seed(seed)
    model, (x, y) = MODELS[kind]().double(), data(seed)
    index = torch.arange(len(x)) if order is None else torch.randperm(len(x))
    batches = list(zip(x[index].split(size), y[index].split(size), index.split(size), strict=True))
    return estimate_fisher(model, batches, structure=structure)


@functools.cache
def whole(kind, seed):
    torch.manual_seed(seed)
    model = MODELS[kind]().double()
    return model, brute_force(model, data(seed)[0])


def twin(structure, kind, seed):
    model, dense = whole(kind, seed)
    return TWINS[structure](dense, model) if structure in TWINS else fisher(structure, kind, seed).to_dense()


@functools.cache
def subject(structure, kind):
    try:
        matrices = [(fisher(structure, kind, seed), twin(structure, kind, seed)) for seed in (0, 1)]
    except InputError as error:
        return str(error)
    return Subject(*matrices[0], *matrices[1], TOLERANCE.get(structure, 1e-10))


@pytest.mark.parametrize("check", CHECKS, ids=name)
@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_contract(structure, kind, check):
    if check in CANNOT.get(structure, ()):
        pytest.skip(f"{structure} refuses this")
    if isinstance(of := subject(structure, kind), str):
        pytest.skip(of)
    check(of)


SIZES = {"w": (3, 4), "b": (3,), "s": (), "v": (2, 2, 2), "c": (3,)}
SHAPES = {name: torch.Size(shape) for name, shape in SIZES.items()}
BLOCKS = (("w", "v"), ("b",), ("s",), ("c",))


def of_rank(rank, names, seed):
    """V [rank, P] over these parameters."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rank, sum(SHAPES[n].numel() for n in names), generator=generator, dtype=torch.float64)


def handmade(kind, seed, names=tuple(SHAPES), rank=5):
    """A singular matrix, and its dense twin."""
    coordinates, v = Coordinates({n: SHAPES[n] for n in names}), of_rank(rank, names, seed)
    if kind == "diagonal":
        entries = v[0].square() * (v[0] > -1)
        return Diagonal(coordinates.named(entries)), entries.diag()
    if kind == "dense":
        return Dense(v.T @ v, coordinates), v.T @ v
    if kind == "low_rank":
        return LowRank(v, coordinates, rank, info={"samples": 3}), v.T @ v
    kinds = ("low_rank", "dense", "diagonal", "diagonal")
    parts = [handmade(k, seed + i, block, 3) for i, (k, block) in enumerate(zip(kinds, BLOCKS, strict=True))]
    sizes = [shape.numel() for shape in SHAPES.values()]
    where = dict(zip(SHAPES, torch.arange(sum(sizes)).split(sizes), strict=True))
    dense = torch.zeros(sum(sizes), sum(sizes), dtype=torch.float64)
    for block, (_, part) in zip(BLOCKS, parts, strict=True):
        rows = torch.cat([where[n] for n in block])
        dense[rows[:, None], rows] = part
    return DirectSum(tuple(fisher for fisher, _ in parts), names, info={"seed": 1}), dense


@pytest.mark.parametrize("check", CHECKS, ids=name)
@pytest.mark.parametrize("kind", ["diagonal", "dense", "low_rank", "direct_sum"])
def test_handmade(kind, check):
    check(Subject(*handmade(kind, 0), *handmade(kind, 10)))


class Watched(Structure):
    """Shows its accumulator."""

    def __init__(self, structure):
        self.structure, self.made = structure, None

    def accumulator(self, model, parameters):
        self.made = self.structure.accumulator(model, parameters)
        return self.made


@pytest.mark.parametrize("structure", [s for s in STRUCTURES if s not in ("kronecker", "ekfac")])
def test_sums_of_parts_of_the_data_add_up(structure):
    """As they do over processes."""
    torch.manual_seed(0)
    model, (x, y) = norms().double(), data(0)
    parts = [Watched(STRUCTURES[structure]()) for _ in range(2)]
    for part, which in zip(parts, (slice(0, 4), slice(4, 11)), strict=True):
        estimate_fisher(model, [(x[which], y[which])], structure=part)
    one, two = (part.made for part in parts)
    if not one.reads or one.keeps_data or type(one).next_pass is not Accumulator.next_pass:
        pytest.skip("no sums, or several passes")
    for mine, other in zip(one.sums(), two.sums(), strict=True):
        mine += other
    close(one.finish(11, {}).to_dense(), fisher(structure, "layer_norm", 0).to_dense(), 1e-9)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_batch_size_and_order_do_not_matter(structure, kind):
    if isinstance(of := subject(structure, kind), str):
        pytest.skip(of)
    for size, order in ((11, None), (6, "shuffled")):
        close(fisher(structure, kind, 0, size, order).to_dense(), of.fisher.to_dense(), 10 * of.tolerance)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_an_estimate_says_where_it_comes_from(structure):
    info, n = fisher(structure, "mlp", 0).info, 0 if structure == "identity" else 11
    expected = {"estimator": "exact", "structure": structure, "likelihood": "categorical", "samples": n}
    assert expected.items() <= info.items()
