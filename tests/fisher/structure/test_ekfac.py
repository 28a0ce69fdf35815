"""Diagonals in Kronecker-factored eigenbases, against dense matrices and the Fisher that they approximate."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from cl_fisher.error import InputError
from cl_fisher.fisher import estimate_fisher
from cl_fisher.fisher.capture import LINEAR
from cl_fisher.fisher.rule.rule import LayerUse
from cl_fisher.fisher.structure import ekfac, ekfac_matrix, spectrum
from cl_fisher.fisher.structure.direct_sum import DirectSum
from cl_fisher.fisher.structure.ekfac import EkfacAccumulator, EkfacStructure
from cl_fisher.fisher.structure.ekfac_matrix import Ekfac
from cl_fisher.fisher.structure.weight_matrix import WeightMatrix
from tests.fisher.structure.contract import CHECKS, name
from tests.fisher.structure.networks import OverPositions, Softmax, block_of, by_definition, data, in_batches, mlp
from tests.fisher.structure.subject import Subject, close, flat, randomly

PLACES = {
    "weight and bias": WeightMatrix("w", "b", (3, 4)),
    "no bias": WeightMatrix("w", None, (3, 2)),
    "convolution": WeightMatrix("w", "b", (2, 2, 1, 2)),
    "bias alone": WeightMatrix(None, "b", (4,)),
}


def matrix(place=PLACES["weight and bias"], seed=0, zeros=True):
    generator = torch.Generator().manual_seed(seed)
    p, q = (
        torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64)).Q
        for n in (place.rows, place.columns)
    )
    values = torch.rand(place.rows, place.columns, generator=generator, dtype=torch.float64)
    if zeros:
        values[-1] = 0
    return Ekfac(place, p[None], q[None], values[None], info={"samples": 5})


def entry_by_entry(fisher):
    """F = sum over eigenvectors: the entry (o, k) of each is P[o, i] Q[k, j], in the order of the parameters."""
    place = fisher.place
    where = [(o, k) for o in range(place.rows) for k in range(place.n_weights)] if place.weight else []
    where += [(o, place.columns - 1) for o in range(place.rows)] if place.bias else []
    dense = torch.zeros(len(where), len(where), dtype=torch.float64)
    for p, q, d in zip(fisher.outputs, fisher.inputs, fisher.values, strict=True):
        for i in range(place.rows):
            for j in range(place.columns):
                u = torch.stack([p[o, i] * q[k, j] for o, k in where])
                dense += d[i, j] * torch.outer(u, u)
    return dense


def alone(block):
    """As an estimate has it: one of many blocks, so that new parameters have a place."""
    return DirectSum((block,), tuple(block.shapes()), info=block.info)


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("check", CHECKS, ids=name)
def test_contract(check, place):
    a, b = matrix(place, 0), matrix(place, 1)
    check(Subject(alone(a), entry_by_entry(a), alone(b), entry_by_entry(b)))


# What is estimated


def estimated(model, x, structure="ekfac", size=3):
    batches = in_batches(x, torch.zeros(len(x), dtype=torch.long), size)
    return estimate_fisher(model, batches, structure=structure)


def check_blocks(fisher, model, x):
    """Each block has the diagonal of the Fisher's in its basis; its trace; and is nearer to it than Kronecker's."""
    dense, factors = by_definition(model, x, Softmax()), estimated(model, x, "kronecker")
    for block, kfac in zip(fisher.blocks, factors.blocks, strict=True):
        true = block_of(dense, model, block.shapes())
        order = block.place.order()
        basis = torch.kron(block.outputs[0], block.inputs[0])[order]
        close(basis.T @ basis, torch.eye(len(basis), dtype=torch.float64), 1e-12)
        close(block.values[0].flatten(), (basis.T @ true @ basis).diagonal(), 1e-10)
        close(block.trace(), true.trace(), 1e-10)
        assert (block.to_dense() - true).norm() <= (kfac.to_dense() - true).norm() * (1 + 1e-10) + 1e-12


@pytest.mark.parametrize("frozen", ["", "0.weight", "0.bias"])
@pytest.mark.parametrize("bias", [True, False])
def test_vectors(bias, frozen):
    model, (x, _) = mlp(4, 3, 3, bias=bias), data(7, 4)
    for key, p in model.named_parameters():
        p.requires_grad_(key != frozen)
    check_blocks(estimated(model, x), model, x)


@pytest.mark.parametrize("frozen", ["", "body.0.weight", "body.0.bias"])
@pytest.mark.parametrize("sharing", ["expand", "reduce"])
@pytest.mark.parametrize("positions", [2, 40])
def test_positions(positions, sharing, frozen, monkeypatch):
    """Few: rows are turned; many: gradients are; examples in parts in both."""
    monkeypatch.setattr(ekfac, "CHUNK_BYTES", 2 * 3 * 6 * 8)
    used, torn = [], (ekfac._of_rows, ekfac._of_gradients)
    monkeypatch.setattr(ekfac, "_of_rows", lambda *args: used.append("rows") or torn[0](*args))
    monkeypatch.setattr(ekfac, "_of_gradients", lambda *args: used.append("gradients") or torn[1](*args))
    torch.manual_seed(0)
    model = OverPositions(nn.Linear(5, 3), nn.Tanh(), nn.Linear(3, 3)).double()
    for key, p in model.named_parameters():
        p.requires_grad_(key != frozen)
    x, _ = data(5, positions, 5)
    fisher = estimated(model, x, EkfacStructure(sharing))
    if not frozen:
        assert set(used) == ({"rows"} if positions == 2 else {"gradients"})
    if sharing == "expand":
        check_blocks(fisher, model, x)
    close(fisher.trace(), by_definition(model, x, Softmax()).trace(), 1e-10)


@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 1}, {"dilation": 2, "bias": False}])
def test_convolutions(options):
    torch.manual_seed(0)
    body = (nn.Conv2d(2, 3, 2, **options), nn.Tanh(), nn.Conv2d(3, 2, (1, 2)), nn.Tanh(), nn.Flatten())
    model = nn.Sequential(*body, nn.LazyLinear(3)).double()
    x, _ = data(4, 2, 5, 6)
    model(x)
    check_blocks(estimated(model, x), model, x)


@pytest.mark.parametrize("positions", [1, 2, 40])
def test_inputs_that_are_always_zero(positions):
    torch.manual_seed(0)
    model = OverPositions(nn.Linear(5, 3), nn.Tanh(), nn.Linear(3, 3)).double()
    x, _ = data(5, positions, 5)
    x[..., [0, 3]] = 0
    check_blocks(estimated(model, x), model, x)


def test_exact_for_one_example():
    model, (x, _) = mlp(4, 3, 3), data(1, 4)
    fisher, dense = estimated(model, x), by_definition(model, x, Softmax())
    for block in fisher.blocks:
        close(block.to_dense(), block_of(dense, model, block.shapes()), 1e-10)


def test_batches_of_any_size():
    model, (x, _) = mlp(4, 3, 3), data(7, 4)
    close(estimated(model, x, size=7).to_dense(), estimated(model, x, size=2).to_dense(), 1e-10)


def use_of(layer, x):
    return LayerUse({"weight": "weight", "bias": "bias"}, layer, LINEAR, x, ())


def second_pass(parts, g, layer, weights=None):
    """As over processes, one part of the examples each: all sums are added up after both passes."""
    accumulators = [EkfacAccumulator(dict(layer.named_parameters()), "expand") for _ in parts]
    for again in (True, False):
        for accumulator, (x, which) in zip(accumulators, parts, strict=True):
            accumulator.add_inputs(use_of(layer, x[which]), None if weights is None else weights[which])
            accumulator.add_layer(use_of(layer, x[which]), [g[which]])
        totals = [sum(sums) for sums in zip(*(a.sums() for a in accumulators), strict=True)]
        for accumulator in accumulators:
            for mine, total in zip(accumulator.sums(), totals, strict=True):
                mine.copy_(total)
            assert accumulator.next_pass(6) is again
    return [accumulator.finish(6, {}).to_dense() for accumulator in accumulators]


def test_sums_over_processes():
    layer, (x, _), (g, _) = nn.Linear(4, 3).double(), data(6, 4), data(6, 3, seed=2)
    (whole,) = second_pass([(x, slice(None))], g, layer)
    for one in second_pass([(x, slice(0, 2)), (x, slice(2, 6))], g, layer):
        close(one, whole, 1e-10)


def test_a_weight_of_two_is_an_example_seen_twice():
    layer, (x, _), (g, _), times = nn.Linear(4, 3).double(), data(3, 4), data(3, 3, seed=2), torch.tensor([1, 2, 3])
    weights = times.double()
    (weighted,) = second_pass([(x, slice(None))], g * weights.sqrt()[:, None], layer, weights)
    (repeated,) = second_pass([(x.repeat_interleave(times, 0), slice(None))], g.repeat_interleave(times, 0), layer)
    close(weighted, repeated, 1e-10)


def test_single_precision():
    model, (x, _) = mlp(20, 30, 3), data(50, 20)
    precise, single = estimated(model, x), estimated(model.float(), x.float())
    assert all(t.dtype == torch.float32 for t in single.tensors().values())
    close(single.trace(), precise.trace(), 1e-5)
    for a, b in zip(single.blocks, precise.blocks, strict=True):
        close(a.to_dense(), b.to_dense(), 1e-2)  # eigenvectors of nearly equal eigenvalues may turn


def test_one_reading_is_not_enough():
    model, (x, y) = mlp(4, 3, 3), data(7, 4)
    with pytest.raises(InputError, match="ekfac"):
        estimate_fisher(model, iter([(x, y)]), structure="ekfac")


def test_wrong_options():
    with pytest.raises(InputError, match="expand, reduce"):
        EkfacStructure("some")


# Sums over tasks


def test_merging():
    """The sum's diagonal in the eigenbasis of its partial traces."""
    a, b = matrix(seed=0), matrix(seed=1)
    merged = a.merged(b)
    order = a.place.order()
    dense = torch.empty(15, 15, dtype=torch.float64)
    dense[order[:, None], order] = (a + b).to_dense()
    blocks = dense.reshape(3, 5, 3, 5)
    p, q = (torch.linalg.eigh(torch.einsum(e, blocks)).eigenvectors for e in ("okpk->op", "okol->kl"))
    basis = torch.kron(p, q)
    values = (basis.T @ dense @ basis).diagonal()
    close(merged.values.flatten(), values, 1e-10)
    close(merged.info["merge_error"], (dense - (basis * values) @ basis.T).norm() / dense.norm(), 1e-7)
    close(merged.trace(), a.trace() + b.trace(), 1e-12)


def test_equal_tasks_lose_nothing():
    a = matrix()
    merged = a.merged(3 * a).merged(a)
    close(merged.to_dense(), 5 * a.to_dense(), 1e-10)
    assert merged.info.get("merge_error", 0.0) < 1e-6


def test_a_task_that_matters_nothing_leaves_the_basis():
    a, none = matrix(), 0.0 * matrix(seed=1)
    for merged in (a.merged(none), none.merged(a)):
        assert all(torch.equal(merged.tensors()[key], t) for key, t in a.tensors().items())
        assert "merge_error" not in merged.info


def test_large_sums_of_terms(monkeypatch):
    place = WeightMatrix("w", "b", (12, 9))
    total = matrix(place, 0) + matrix(place, 1) + matrix(place, 2)
    dense, v = total.to_dense(), randomly(total.shapes(), 5)
    for module in (spectrum, ekfac_matrix):
        monkeypatch.setattr(module, "MAX_ROWS", 100)
    close(total.largest_eigenvalue(), torch.linalg.eigvalsh(dense)[-1], 1e-10)
    damped = dense + 0.01 * torch.eye(120, dtype=torch.float64)
    close(flat(total.solve(v, 0.01)), torch.linalg.solve(damped, flat(v)), 1e-8)
    with pytest.raises(InputError, match="3 Kronecker terms over 120 parameters"):
        total.logdet(1.0)
    assert math.isfinite(replace(total.merged(0 * total)).logdet(1.0))
