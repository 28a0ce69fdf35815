"""Kronecker products per layer, against the dense matrix that they stand for and the Fisher that they approximate."""

import math

import pytest
import torch
from torch import nn

from cl_fisher.error import InputError
from cl_fisher.fisher import estimate_fisher
from cl_fisher.fisher.capture import LINEAR
from cl_fisher.fisher.rule.rule import LayerUse
from cl_fisher.fisher.structure import kronecker_matrix, kronecker_sum, spectrum
from cl_fisher.fisher.structure.diagonal import Diagonal
from cl_fisher.fisher.structure.direct_sum import DirectSum
from cl_fisher.fisher.structure.kronecker import KroneckerAccumulator, KroneckerStructure
from cl_fisher.fisher.structure.kronecker_matrix import Kronecker
from cl_fisher.fisher.structure.weight_matrix import WeightMatrix
from tests.fisher.structure.contract import CHECKS, name
from tests.fisher.structure.networks import (
    Identity,
    OverPositions,
    Softmax,
    block_of,
    by_definition,
    data,
    in_batches,
    mlp,
)
from tests.fisher.structure.subject import Subject, close, flat, randomly

BOTH = WeightMatrix("w", "b", (3, 4))
CASES = {
    "weight and bias": (BOTH, 1, 1),
    "no bias": (WeightMatrix("w", None, (3, 2)), 1, 1),
    "convolution": (WeightMatrix("w", "b", (2, 2, 1, 2)), 1, 1),
    "bias alone": (WeightMatrix(None, "b", (4,)), 1, 1),
    "two terms": (BOTH, 2, 2),
    "three terms of a convolution": (WeightMatrix("w", "b", (2, 2, 1, 2)), 3, 3),
}


def moment(size, generator, examples=20):
    x = torch.randn(examples, size, generator=generator, dtype=torch.float64)
    return x.T @ x / examples


def matrix(place=BOTH, seed=0, rank=1, terms=1, examples=20):
    generator = torch.Generator().manual_seed(seed)
    g = torch.stack([moment(place.rows, generator, examples) for _ in range(terms)])
    a = torch.stack([moment(place.columns, generator, examples) for _ in range(terms)])
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


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("check", CHECKS, ids=name)
def test_contract(check, case):
    place, rank, terms = CASES[case]
    a, b = (matrix(place, seed, rank, terms) for seed in (0, 1))
    check(Subject(alone(a), entry_by_entry(a), alone(b), entry_by_entry(b)))


# What is estimated


def estimated(model, x, estimator, sharing="expand", size=3):
    batches = in_batches(x, torch.zeros(len(x), dtype=torch.long), size)
    return estimate_fisher(model, batches, estimator=estimator, structure=KroneckerStructure(sharing))


@pytest.mark.parametrize("frozen", ["", "0.weight", "0.bias", "2.weight", "2.bias"])
@pytest.mark.parametrize("bias", [True, False])
def test_exact_for_one_example(bias, frozen):
    model, (x, _) = mlp(4, 3, 3, bias=bias), data(1, 4)
    if frozen not in ("", *dict(model.named_parameters())):
        pytest.skip("no such parameter")
    for key, p in model.named_parameters():
        p.requires_grad_(key != frozen)
    fisher, dense = estimated(model, x, "exact"), by_definition(model, x, Softmax())
    assert list(fisher.shapes()) == [key for key, p in model.named_parameters() if p.requires_grad]
    assert len(fisher.blocks) == len({key.split(".")[0] for key in fisher.shapes()})
    for block in fisher.blocks:
        assert isinstance(block, Kronecker)
        close(block.to_dense(), block_of(dense, model, block.shapes()), 1e-10)


@pytest.mark.parametrize("bias", [True, False])
def test_exact_for_a_deep_linear_network_with_a_gaussian(bias):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3, bias), nn.Linear(3, 2, bias)).double()
    x, _ = data(7, 4)
    fisher, dense = estimated(model, x, Identity()), by_definition(model, x, Identity())
    for block in fisher.blocks:
        close(block.to_dense(), block_of(dense, model, block.shapes()), 1e-10)


def test_expand_is_exact_where_positions_are_outputs_of_their_own():
    torch.manual_seed(0)
    model = OverPositions(nn.Linear(4, 3), nn.Linear(3, 2), mean=False).double()
    x, _ = data(5, 6, 4)
    fisher, dense = estimated(model, x, Identity()), by_definition(model, x, Identity())
    for block in fisher.blocks:
        close(block.to_dense(), block_of(dense, model, block.shapes()), 1e-10)


def test_reduce_is_exact_before_an_average_over_positions():
    torch.manual_seed(0)
    model = OverPositions(nn.Linear(4, 3), nn.Linear(3, 2)).double()
    x, _ = data(5, 6, 4)
    fisher, dense = estimated(model, x, Identity(), "reduce"), by_definition(model, x, Identity())
    for block in fisher.blocks:
        close(block.to_dense(), block_of(dense, model, block.shapes()), 1e-10)
    bad = estimated(model, x, Identity(), "expand").blocks[0].to_dense()
    assert float((bad - block_of(dense, model, fisher.blocks[0].shapes())).norm() / dense.norm()) > 0.1


def test_convolutions_before_an_average_over_pixels():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, (2, 3), stride=2, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten()).double()
    x, _ = data(5, 2, 5, 6)
    fisher, dense = estimated(model, x, Identity(), "reduce"), by_definition(model, x, Identity())
    close(fisher.to_dense(), dense, 1e-10)


@pytest.mark.parametrize("sharing", ["expand", "reduce"])
def test_factors_by_definition(sharing):
    """One example, one position and one column at a time, by autograd."""
    torch.manual_seed(0)
    first, second = nn.Linear(4, 3).double(), nn.Linear(3, 3).double()
    model = OverPositions(first, nn.Tanh(), second)
    x, _ = data(5, 6, 4)
    block = estimated(model, x, Softmax(), sharing).blocks[0]
    g_sum, a_sum = torch.zeros(3, 3, dtype=torch.float64), torch.zeros(5, 5, dtype=torch.float64)
    for example in x:
        inner = first(example[None]).detach().requires_grad_()
        outputs = second(inner.tanh()).mean(1)
        rows = torch.cat([example, torch.ones(6, 1, dtype=torch.float64)], 1)
        rows = rows.mean(0, keepdim=True) if sharing == "reduce" else rows
        a_sum += sum(torch.outer(row, row) for row in rows) / len(rows)
        for column in Softmax().columns(None, outputs.detach(), None, None):
            (g,) = torch.autograd.grad(outputs, inner, column, retain_graph=True)
            for row in g.sum(1) if sharing == "reduce" else g[0]:
                g_sum += torch.outer(row, row)
    close(block.outputs[0], g_sum / 5, 1e-10)
    close(block.inputs[0], a_sum / 5, 1e-10)


@pytest.mark.parametrize("structure", [KroneckerStructure("expand"), KroneckerStructure("reduce")])
def test_batches_of_any_size(structure):
    torch.manual_seed(0)
    model = OverPositions(nn.Linear(4, 130), nn.Tanh(), nn.Linear(130, 3)).double()  # more than a block of columns
    x, y = data(7, 5, 4)
    whole, parts = (estimate_fisher(model, in_batches(x, y, n), "categorical", "exact", structure) for n in (7, 2))
    for a, b in zip(whole.blocks, parts.blocks, strict=True):
        close(a.outputs, b.outputs, 1e-12)
        close(a.inputs, b.inputs, 1e-12)


@pytest.mark.parametrize("sharing", ["expand", "reduce"])
@pytest.mark.parametrize("frozen", ["none", "weight", "bias"])
def test_a_weight_of_two_is_an_example_seen_twice(frozen, sharing):
    layer = nn.Linear(4, 3).double()
    names = {key: key for key in ("weight", "bias") if key != frozen}
    (x, _), (g, _) = data(3, 5, 4), data(3, 5, 3, seed=2)
    times = torch.tensor([1, 2, 3])

    def result(x, g, weights):
        accumulator = KroneckerAccumulator(dict(layer.named_parameters()), sharing, 1)
        use = LayerUse(names, layer, LINEAR, x, ())
        accumulator.add_inputs(use, weights)
        accumulator.add_layer(use, [g, 2 * g])
        return accumulator.finish(6, {}).blocks[0]

    weighted = result(x, g * times.double().sqrt()[:, None, None], times.double())
    repeated = result(x.repeat_interleave(times, 0), g.repeat_interleave(times, 0), None)
    close(weighted.to_dense(), repeated.to_dense(), 1e-12)


def test_weights_that_do_not_add_up_to_the_number_of_examples():
    """As importance sampling has them: exact for one example all the same."""
    layer, (x, _), (g, _) = nn.Linear(4, 3, bias=False).double(), data(1, 4), data(1, 3, seed=2)
    accumulator = KroneckerAccumulator(dict(layer.named_parameters()), "expand", 1)
    use = LayerUse({"weight": "weight"}, layer, LINEAR, x, ())
    accumulator.add_inputs(use, torch.tensor([3.0], dtype=torch.float64))
    accumulator.add_layer(use, [g * math.sqrt(3)])
    own = (g.T @ x).flatten()
    close(accumulator.finish(10, {}).to_dense(), 3 / 10 * torch.outer(own, own), 1e-12)


def test_sums_over_processes():
    """What two processes have seen adds up to what one sees."""
    layer, (x, _), (g, _) = nn.Linear(4, 3).double(), data(5, 4), data(5, 3, seed=2)
    whole, first, second = (KroneckerAccumulator(dict(layer.named_parameters()), "expand", 1) for _ in range(3))
    for accumulator, part in ((whole, slice(None)), (first, slice(0, 2)), (second, slice(2, 5))):
        use = LayerUse({"weight": "weight", "bias": "bias"}, layer, LINEAR, x[part], ())
        accumulator.add_inputs(use, None)
        accumulator.add_layer(use, [g[part]])
    for mine, theirs in zip(first.sums(), second.sums(), strict=True):
        mine += theirs
    close(first.finish(5, {}).to_dense(), whole.finish(5, {}).to_dense(), 1e-12)


def test_rows_are_unrolled_some_examples_at_a_time(monkeypatch):
    model, (x, _) = OverPositions(nn.Linear(4, 3)).double(), data(7, 5, 4)
    at_once = estimated(model, x, "exact", size=7)
    monkeypatch.setattr("cl_fisher.fisher.structure.kronecker._ROWS_BYTES", 2 * 5 * 4 * 8)
    close(estimated(model, x, "exact", size=7).to_dense(), at_once.to_dense(), 1e-12)


def test_parameters_without_kronecker_form():
    model = nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.Linear(5, 3))
    x, y = data(6, 4)
    with pytest.raises(InputError, match=r"1\.weight has no Kronecker form.*fisher/structure=mixed keeps its diagonal"):
        estimate_fisher(model, [(x.float(), y)], structure="kronecker")


class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.active = nn.Linear(4, 5), 0
        self.heads = nn.ModuleList([nn.Linear(5, 3), nn.Linear(5, 3)])

    def forward(self, x):
        return self.heads[self.active](self.body(x).tanh())


def test_heads_in_turn():
    """A head that a task does not use is zero in its Fisher, and merging fills it in."""
    torch.manual_seed(0)
    model, (x, y) = Heads().double(), data(1, 4)
    first = estimate_fisher(model, [(x, y)], structure="kronecker")
    assert [block.trace() for block in first.blocks if isinstance(block, Diagonal)] == [0, 0]
    model.active = 1
    second = estimate_fisher(model, [(x, y)], structure="kronecker")
    total = first.merged(second)
    assert all(isinstance(block, Kronecker) for block in total.blocks)
    heads = dict(model.heads.named_parameters(prefix="heads"))
    assert total.shapes().items() >= {key: p.shape for key, p in heads.items()}.items()
    for head, fisher in enumerate((first, second)):
        v = {key: p.detach() * (f"heads.{head}" in key) for key, p in model.named_parameters()}
        close(total.quadratic(v), fisher.quadratic(v), 1e-10)


def test_low_precision_parameters():
    model, (x, y) = mlp(4, 5, 3).bfloat16(), data(6, 4)
    fisher = estimate_fisher(model, [(x.bfloat16(), y)], structure="kronecker")
    assert all(t.dtype == torch.float32 for t in fisher.tensors().values())


@pytest.mark.parametrize(("options", "text"), [({"sharing": "some"}, "expand, reduce"), ({"rank": 0}, "at least 1")])
def test_wrong_options(options, text):
    with pytest.raises(InputError, match=text):
        KroneckerStructure(**options)


# Sums over tasks


def rearranged(fisher):
    """sum_t vec(G_t) vec(A_t)^T (Van Loan & Pitsianis 1993)."""
    return sum(torch.outer(g.flatten(), a.flatten()) for g, a in zip(fisher.outputs, fisher.inputs, strict=True))


def test_one_term_is_the_best_there_is():
    a, b = matrix(seed=0, examples=3), matrix(seed=1, examples=3)
    merged, singular = a.merged(b), torch.linalg.svdvals(rearranged(a + b))
    close(merged.info["merge_error"], singular[1:].norm() / singular.norm(), 1e-10)
    close(rearranged(merged).norm(), singular[0], 1e-10)
    for factors in (merged.outputs, merged.inputs):
        values = torch.linalg.eigvalsh(factors[0])
        assert values[0] >= -1e-14 * values[-1]


def test_equal_tasks_lose_nothing():
    a = matrix()
    for rank in (1, 2):
        merged = kronecker_matrix.replace(a, rank=rank).merged(3 * a).merged(a)
        close(merged.to_dense(), 5 * a.to_dense(), 1e-12)
        assert merged.info.get("merge_error", 0.0) < 1e-12


def on_rows(rows):
    """Of a task that only some outputs and inputs matter to."""
    g, a = torch.zeros(3, 3, dtype=torch.float64), torch.zeros(5, 5, dtype=torch.float64)
    g[rows, rows], a[rows, rows] = 1.0, 2.0
    return Kronecker(BOTH, g[None], a[None])


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_tasks_that_share_nothing(order):
    """The largest singular value is a multiple one: any of the tasks is a best single product, no mixture is kept."""
    total = on_rows(order[0]) + on_rows(order[1])
    merged = total.merged(on_rows(order[2]))
    assert bool((torch.linalg.eigvalsh(merged.to_dense()) >= 0).all())
    close(merged.norm(), 2.0, 1e-12)
    assert merged.info["merge_error"] == pytest.approx(math.sqrt(2 / 3))


@pytest.mark.parametrize("sign", [1, -1])
def test_mixed_signs_of_singular_vectors(sign, monkeypatch):
    """For a singular value that is a multiple one they may come out so; no negative mixture of tasks follows."""
    total, plain = on_rows(0) + on_rows(1), torch.linalg.svd
    turned = torch.tensor([[1.0, sign], [-sign, 1.0]], dtype=torch.float64) / math.sqrt(2)

    def svd(core):
        left, values, right = plain(core)
        close(values, torch.full((2,), 2.0), 1e-14)
        return left @ turned, values, turned.T @ right

    monkeypatch.setattr(torch.linalg, "svd", svd)
    merged = Kronecker(BOTH, *kronecker_sum.compressed(total.outputs, total.inputs, 1))
    assert bool((torch.linalg.eigvalsh(merged.to_dense()) >= -1e-14).all())
    close((merged + total._times(-1.0)).norm(), 2.0, 1e-12)


def test_two_terms_are_made_of_the_pair_that_loses_least():
    near, far = matrix(seed=0, rank=2, examples=3), matrix(seed=1, rank=2, examples=3)
    nearly = near + 0.1 * matrix(seed=2, examples=3)
    merged = (far + near).merged(nearly.merged(0 * nearly))
    assert len(merged.outputs) == 2
    dense = (far + near + nearly).to_dense()
    error = float((merged.to_dense() - dense).norm() / dense.norm())
    assert merged.info["merge_error"] == pytest.approx(error, abs=1e-12)
    single = kronecker_matrix.replace(far + near, rank=1).merged(nearly)
    assert error < 0.5 * single.info["merge_error"]
    assert torch.linalg.eigvalsh(merged.to_dense())[0] >= -1e-12


def test_the_best_two_terms_would_not_be_positive():
    """Why they are not used: tasks with null spaces of their own."""
    total = matrix(seed=0, examples=2) + matrix(seed=1, examples=2) + matrix(seed=2, examples=2)
    left, values, right = torch.linalg.svd(rearranged(total))
    best = sum(values[i] * torch.kron(left[:, i].reshape(3, 3), right[i].reshape(5, 5)) for i in range(2))
    spectrum_ = torch.linalg.eigvalsh((best + best.T) / 2)
    assert spectrum_[0] < -5e-4 * spectrum_[-1]


def test_all_terms_are_kept_without_a_rank():
    a, b = (matrix(seed=seed, rank=None) for seed in (0, 1))
    merged = a.merged(b).merged(a)
    assert len(merged.outputs) == 3
    assert "merge_error" not in merged.info
    close(merged.to_dense(), 2 * a.to_dense() + b.to_dense(), 1e-12)


def test_large_sums_of_terms(monkeypatch):
    total = matrix(WeightMatrix("w", "b", (12, 9)), 0, terms=3)
    dense, v = total.to_dense(), randomly(total.shapes(), 5)
    for module in (spectrum, kronecker_matrix):
        monkeypatch.setattr(module, "MAX_ROWS", 100)
    close(total.largest_eigenvalue(), torch.linalg.eigvalsh(dense)[-1], 1e-10)
    for damping in (1.0, 1e-3):
        damped = dense + damping * torch.eye(120, dtype=torch.float64)
        close(flat(total.solve(v, damping)), torch.linalg.solve(damped, flat(v)), 1e-8)
    for operation in (lambda: total.logdet(1.0), lambda: total.sample(1, 1.0), total.eigenvalues):
        with pytest.raises(InputError, match=r"3 Kronecker terms over 120 parameters.*rank=1"):
            operation()
    assert total.merged(0 * total).logdet(1.0) < math.inf


def test_indefinite_sums():
    a, b = matrix(seed=0), matrix(seed=1)
    difference = a + b._times(-3.0)
    close(difference.norm(), (a.to_dense() - 3 * b.to_dense()).norm(), 1e-12)
    smallest = float(torch.linalg.eigvalsh(difference.to_dense())[0])
    assert smallest < 0
    assert math.isfinite(difference.logdet(-1.1 * smallest))
    for operation in (difference.logdet, lambda damping: difference.sample(1, damping)):
        with pytest.raises(InputError, match=r"damping=0\.01 is too small"):
            operation(0.01)
    with pytest.raises(InputError, match="damping"):
        difference.solve(randomly(a.shapes(), 0), 0.01)
    with pytest.raises(InputError, match="damping=0 is too small"):
        (0 * a).solve(randomly(a.shapes(), 0), 0.0)


def test_inputs_that_are_always_zero():
    x, _ = data(20, 5)
    x[:, [0, 3]] = 0
    gram = x.T @ x
    values, vectors = spectrum.eigh(gram, torch.float64)
    close((vectors * values) @ vectors.T, gram, 1e-12)
    close(vectors.T @ vectors, torch.eye(5, dtype=torch.float64), 1e-12)
    assert int((values == 0).sum()) == 2
