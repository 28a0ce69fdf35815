"""Models that put the rows of a layer in an order that the data decides: the first batch tells nothing."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from cl_fisher.fisher import capture, estimate_fisher
from cl_fisher.fisher.graph import graph_of
from cl_fisher.fisher.reference import brute_force
from tests.fisher import models
from tests.fisher.models import Model

N, SORTED = 40, 20  # so many examples, of which the first are in the model's own order already


def order(x):
    return x[:, 0].argsort(stable=True)


def layers(function, **parts):
    return Model(function, a=nn.Linear(6, 7), c=nn.Linear(7, 4), **parts)


def moved(there, back):
    """One layer on the rows in another order, put back afterwards."""
    return layers(lambda m, x: m.c(back(torch.tanh(m.a(there(x, order(x)))), order(x))))


def placed(h, i):
    return torch.zeros_like(h).index_copy(0, i, h)


def by_matrix(h, i):
    return functional.one_hot(i, len(i)).to(h).mT @ h


def by_list(h, i):
    return torch.stack([h[int(k)] for k in i.argsort()])


def permutation(i):
    return functional.one_hot(i.argsort()).double()


def by_products(h, i):
    return (permutation(i)[:, :, None] * h).sum(1)


def by_columns(h, i):
    columns = h.mT.unbind(1)
    return torch.stack([columns[int(k)] for k in i.argsort()], 1).mT


def by_pooling(h, i):
    return functional.avg_pool1d(h.mT[None] * permutation(i)[:, None], len(i)).squeeze(-1) * len(i)


class Placed(torch.autograd.Function):
    """What torch knows nothing of."""

    @staticmethod
    def forward(ctx, h, i):
        ctx.save_for_backward(i)
        return torch.empty_like(h).index_copy_(0, i, h)

    @staticmethod
    def backward(ctx, g):
        return g[ctx.saved_tensors[0]], None


MODELS = {
    "tied": lambda: layers(lambda m, x: m.c(torch.tanh(m.a(x)) + torch.tanh(m.a(x[order(x)]))[order(x).argsort()])),
    "index": lambda: moved(lambda x, i: x[i], lambda h, i: h[i.argsort()]),
    "index_select": lambda: moved(lambda x, i: x[i], lambda h, i: h.index_select(0, i.argsort())),
    "index_copy": lambda: moved(lambda x, i: x[i], placed),
    "gather": lambda: moved(lambda x, i: x[i], lambda h, i: h.gather(0, i.argsort()[:, None].expand_as(h))),
    "embedding": lambda: moved(lambda x, i: x[i], lambda h, i: functional.embedding(i.argsort(), h)),
    "matrix": lambda: moved(lambda x, i: x[i], by_matrix),
    "product from the right": lambda: moved(lambda x, i: x[i], lambda h, i: (h.mT @ permutation(i).mT).mT),
    "products and a sum": lambda: moved(lambda x, i: x[i], by_products),
    "kernel": lambda: moved(lambda x, i: x[i], lambda h, i: functional.conv1d(h[None], permutation(i)[..., None])[0]),
    "columns": lambda: moved(lambda x, i: x[i], by_columns),
    "slices": lambda: moved(lambda x, i: x[i], lambda h, i: torch.cat([h.mT[:, k : k + 1] for k in i.argsort()], 1).mT),
    "pooling": lambda: moved(lambda x, i: x[i], by_pooling),
    "list": lambda: moved(lambda x, i: x[i], by_list),
    "own function": lambda: moved(lambda x, i: x[i], lambda h, i: Placed.apply(h, i)),
    "roll": lambda: layers(
        lambda m, x: m.c(torch.where(x[0, 0] == 1, (h := torch.tanh(m.a(halves(x)))), h.roll(-1, 0)))
    ),
}


def halves(x):
    return x if x[0, 0] == 1 else x.roll(1, 0)


def examples():
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(N, 6, generator=generator, dtype=torch.float64)
    inputs[:SORTED, 0] = 1
    return inputs, torch.randint(0, 4, (N,), generator=generator)


@pytest.mark.filterwarnings("ignore:Fisher example by example")
@pytest.mark.parametrize("structure", ["diagonal", "dense"])
@pytest.mark.parametrize("sizes", [[SORTED, N - SORTED], [N], [SORTED, 5, 15]])
@pytest.mark.parametrize("name", MODELS)
def test_rows_are_whose_they_are_in_every_batch(name, sizes, structure):
    torch.manual_seed(0)
    model, (inputs, targets) = MODELS[name]().double(), examples()
    batches = list(zip(inputs.split(sizes), targets.split(sizes), strict=True))
    truth = brute_force(model, inputs)
    found = estimate_fisher(model, batches, structure=structure).to_dense()
    torch.testing.assert_close(found, truth if structure == "dense" else truth.diagonal().diag(), rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize(
    "name",
    [
        *("mlp", "in-place residual", "grids", "batch norm", "transformer", "transformer stack", "checkpointed"),
        *("attention, time first", "decoder", "weight norm by hook", "tied transposed"),
    ],
)
def test_where_rows_stay_they_are_probed_once(name, monkeypatch):
    """More would cost a pass for every batch."""
    model, inputs, targets = models.make(name)
    probes = []
    monkeypatch.setattr(
        capture, "_owned", lambda *given, true=capture._owned: probes.append(len(given[4])) or true(*given)
    )
    estimate_fisher(model, list(zip(inputs.split([5, 4, 2]), targets.split([5, 4, 2]), strict=True)))
    assert set(probes) == {5}


@pytest.mark.parametrize("name", MODELS)
def test_where_rows_may_move_the_graph_has_no_form(name):
    assert graph_of(MODELS[name]().double()(examples()[0])).form is None


def test_a_form_is_of_what_is_computed_not_of_how_much():
    model = models.mlp()
    x = torch.randn(8, 6)
    assert graph_of(model(x)).form == graph_of(model(x[:3])).form
    assert graph_of(model(x)).form != graph_of(model(x) + model(x)).form
