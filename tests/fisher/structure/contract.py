"""What every Fisher matrix must do, checked against the dense matrix [P, P] that it stands for.

A test of a structure runs them all:

    @pytest.mark.parametrize("check", CHECKS, ids=name)
    def test_contract(check):
        check(Subject(matrix, matrix_dense, other, other_dense))
"""

import json
import math
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from cl_fisher.fisher import load_fisher
from cl_fisher.fisher.storage import restored
from tests.fisher.structure.subject import close, flat, form, grown_shape, largest, positions, randomly, wider_shape


def shapes_are_those_of_the_parameters(s):
    shapes = s.fisher.shapes()
    assert sum(shape.numel() for shape in shapes.values()) == len(s.dense)
    for named in (s.fisher.diagonal(), s.fisher.mv(s.vector()), s.fisher.solve(s.vector(), 1.0)):
        assert list(named) == list(shapes)
        assert {name: t.shape for name, t in named.items()} == shapes


def dense_is_its_twin(s):
    dense = s.fisher.to_dense()
    close(dense, s.dense, s.tolerance)
    close(dense, dense.T, 1e-14)


def product(s):
    for seed in range(3):
        close(flat(s.fisher.mv(s.vector(seed))), s.dense @ flat(s.vector(seed)), s.tolerance)


def parameters_are_told_by_name(s):
    """Another order and names that it knows nothing of change nothing."""
    v = s.vector()
    mixed = {"unknown": torch.ones(2), **dict(reversed(v.items()))}
    close(flat(s.fisher.mv(mixed)), s.dense @ flat(v), s.tolerance)
    close(s.fisher.quadratic(mixed), flat(v) @ s.dense @ flat(v), s.tolerance)
    close(flat(s.fisher.solve(mixed, 1.0)), torch.linalg.solve(s.damped(1.0), flat(v)), s.tolerance)


def quadratic_form(s):
    for seed in range(3):
        v = s.vector(seed)
        assert s.fisher.quadratic(v).dim() == 0
        close(s.fisher.quadratic(v), flat(v) @ s.dense @ flat(v), s.tolerance)


def gradient_of_the_quadratic_form(s):
    """Half of it times the factor is added in place."""
    target, delta = s.vector(1), s.vector(2)
    start, x = flat(target), flat(delta).requires_grad_()
    (slope,) = torch.autograd.grad(x @ s.dense @ x, x)
    s.fisher.add_product_(target, delta, 3.0)
    close(flat(target) - start, 1.5 * slope, 10 * s.tolerance)
    close(flat(delta), flat(s.vector(2)), 0.0)


def solution(s):
    """What conditioning costs is granted."""
    for damping in s.dampings():
        granted = s.tolerance * (1 + largest(s.dense) / damping)
        x = flat(s.fisher.solve(s.vector(), damping))
        close(x, torch.linalg.solve(s.damped(damping), flat(s.vector())), granted)


def diagonal(s):
    close(flat(s.fisher.diagonal()), s.dense.diagonal(), s.tolerance)


def trace(s):
    close(s.fisher.trace(), s.dense.trace(), s.tolerance)


def norm(s):
    close(s.fisher.norm(), s.dense.norm(), s.tolerance)


def log_determinant(s):
    for damping in s.dampings():
        expected = torch.linalg.slogdet(s.damped(damping)).logabsdet
        granted = s.tolerance * (1 + largest(s.dense) / damping) * len(s.dense)
        assert abs(s.fisher.logdet(damping) - float(expected)) <= granted


def eigenvalues(s):
    values = s.fisher.eigenvalues()
    close(values, torch.linalg.eigvalsh(s.dense).flip(0), s.tolerance)
    assert bool((values[:-1] >= values[1:]).all())
    assert float(values[-1]) >= -s.tolerance * largest(s.dense), "not positive semi-definite"
    close(s.fisher.largest_eigenvalue(), largest(s.dense), s.tolerance)


def draws(s):
    """Mean and covariance, each entry within six standard errors."""
    n, damping = 20_000, s.dampings()[0]
    drawn = s.fisher.sample(n, damping, seed=3)
    assert {name: t.shape[1:] for name, t in drawn.items()} == s.fisher.shapes()
    x, expected = torch.cat([d.reshape(n, -1) for d in drawn.values()], 1), torch.linalg.inv(s.damped(damping))
    variance = expected.diagonal()
    assert float((x.mean(0) * (n / variance).sqrt()).abs().max()) < 6
    error = ((variance[:, None] * variance + expected.square()) / n).sqrt()
    assert float(((x.T @ x / n - expected) / error).abs().max()) < 6


def draws_follow_the_seed(s):
    once, again, other = (flat(s.fisher.sample(2, 1.0, seed)) for seed in (3, 3, 4))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


def addition(s):
    total = s.fisher + s.other
    assert type(total) is type(s.fisher)
    close(total.to_dense(), s.dense + s.other_dense, s.tolerance)
    v = s.vector()
    close(flat(total.solve(v, 1.0)), torch.linalg.solve(s.damped(1.0) + s.other_dense, flat(v)), 10 * s.tolerance)


def multiplication(s):
    for scaled in (0.25 * s.fisher, s.fisher * 0.25):
        assert type(scaled) is type(s.fisher)
        close(scaled.to_dense(), 0.25 * s.dense, s.tolerance)
        close(scaled.eigenvalues(), 0.25 * torch.linalg.eigvalsh(s.dense).flip(0), s.tolerance)


def zero_times_it(s):
    """What is left of old tasks if gamma is 0."""
    zero, v = 0.0 * s.fisher, s.vector()
    assert float(zero.quadratic(v)) == zero.trace() == zero.norm() == zero.largest_eigenvalue() == 0
    close(flat(zero.solve(v, 0.5)), 2 * flat(v), s.tolerance)
    close(zero.logdet(0.5), len(s.dense) * math.log(0.5), s.tolerance)
    assert flat(zero.sample(2, 0.5)).isfinite().all()
    close(zero.merged(s.fisher).to_dense(), s.dense, 10 * s.tolerance)
    assert zero.merged(zero).trace() == 0


def merge_is_exact_or_says_its_error(s):
    merged, exact = s.fisher.merged(s.other), s.dense + s.other_dense
    true = float((merged.to_dense() - exact).norm() / exact.norm())
    assert abs(merged.info.get("merge_error", 0.0) - true) <= 1e-6 + s.tolerance
    assert merged.info.items() >= without_error(s.fisher.info).items()


def merge_takes_the_memory_of_one(s):
    assert s.fisher.merged(s.other).bytes <= max(s.fisher.bytes, s.other.bytes)


def merge_keeps_positive_semi_definite(s):
    values = torch.linalg.eigvalsh(s.fisher.merged(s.other).to_dense())
    assert float(values[0]) >= -10 * s.tolerance * float(values[-1])


def merging_again_and_again(s):
    """The error is that of all merges, or more."""
    merged, exact = s.fisher, s.dense
    for i in range(4):
        fisher, dense = ((s.other, s.other_dense), (s.fisher, s.dense))[i % 2]
        merged, exact = (0.5 * merged).merged((i + 1.0) * fisher), 0.5 * exact + (i + 1.0) * dense
    true = float((merged.to_dense() - exact).norm() / exact.norm())
    assert merged.info.get("merge_error", 0.0) >= true - 1e-9 - s.tolerance


def completed_square(s):
    a, b = s.vector(1), s.vector(2)
    square = s.fisher.complete_square(a, s.other, b)
    if square is None:
        return
    total, centre, constant = square
    for seed in range(10, 13):
        x = flat(s.vector(seed))
        apart = form(s.dense, x - flat(a)) + form(s.other_dense, x - flat(b))
        close(form(total.to_dense(), x - flat(centre)) + constant, apart, 10 * s.tolerance)


def growth(s):
    """Old entries stay where they were, everything new is zero; new parameters may come anywhere."""
    for larger in (grown_shape, wider_shape):
        shapes = larger(s.fisher.shapes())
        where = positions(s.fisher.shapes(), shapes)
        size = sum(shape.numel() for shape in shapes.values())
        both = []
        for fisher, dense in ((s.fisher, s.dense), (s.other, s.other_dense)):
            grown = fisher.grown(randomly(shapes, 0))
            expected = torch.zeros(size, size, dtype=torch.float64)
            expected[where[:, None], where] = dense
            operations_agree(replace(s, fisher=grown, dense=expected))
            assert grown.shapes() == shapes
            assert grown.info == fisher.info
            both.append((grown, expected))
        close((both[0][0] + both[1][0]).to_dense(), both[0][1] + both[1][1], s.tolerance)


def growth_by_nothing(s):
    same = s.fisher.grown(s.vector())
    close(same.to_dense(), s.fisher.to_dense(), 0.0)
    assert list(same.shapes()) == list(s.fisher.shapes())


def other_precision(s):
    """Of 32 bits at least; sizes and further names among the parameters do not matter."""
    shapes = grown_shape(s.fisher.shapes())
    for dtype, kept in (
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float64, torch.float64),
    ):
        moved = s.fisher.to(randomly(shapes, 0, dtype))
        assert moved.shapes() == s.fisher.shapes()
        assert {t.dtype for t in moved.diagonal().values()} == {kept}
        assert moved.info == s.fisher.info
        close(moved.to_dense(), s.dense, 1e-5 if kept == torch.float32 else s.tolerance)


def parameters_of_16_bits(s):
    """A matrix of 32 bits meets weights and gradients of 16; no product is summed in 16."""
    shapes = s.fisher.shapes()
    fisher = s.fisher.to(randomly(shapes, 0, torch.bfloat16))
    delta, target = (
        randomly(shapes, 1, torch.bfloat16),
        {name: torch.zeros(shape, dtype=torch.bfloat16) for name, shape in shapes.items()},
    )
    x = flat(delta).double()
    close(flat(fisher.mv(delta)), s.dense @ x, 0.01)
    close(fisher.quadratic(delta), form(s.dense, x), 1e-4)
    close(flat(fisher.solve(delta, s.dampings()[0])), torch.linalg.solve(s.damped(s.dampings()[0]), x), 0.01)
    fisher.add_product_(target, delta, 2.0)
    assert {t.dtype for t in target.values()} == {torch.bfloat16}
    close(flat(target), 2 * s.dense @ x, 0.02)


def file(s):
    """Bit for bit, with everything that it says of itself."""
    error = {name: torch.rand(shape) for name, shape in s.fisher.shapes().items()}
    for fisher in (s.fisher, replace(s.fisher, standard_error=error), s.fisher.merged(s.other), s.fisher + s.other):
        with tempfile.TemporaryDirectory() as folder:
            fisher.save(Path(folder) / "f.safetensors")
            loaded = load_fisher(Path(folder) / "f.safetensors")
        same(loaded, fisher)
        assert (loaded.standard_error or {}).keys() == (fisher.standard_error or {}).keys()
        for name, expected in (fisher.standard_error or {}).items():
            assert torch.equal(loaded.standard_error[name], expected)


def stored_form(s):
    """As a checkpoint keeps it; a matrix that has grown, too."""
    for fisher in (s.fisher, s.fisher.grown(randomly(grown_shape(s.fisher.shapes()), 0)), s.fisher.merged(s.other)):
        form_ = json.loads(json.dumps(fisher.form()))
        same(restored(fisher.kind, fisher.tensors(), json.loads(json.dumps(dict(fisher.info))), form_), fisher)


def nothing_changes_it(s):
    before = {name: t.clone() for name, t in s.fisher.tensors().items()}
    v, shapes = s.vector(), s.fisher.shapes()
    for made in (s.fisher + s.other, 2 * s.fisher, s.fisher.merged(s.other), s.fisher.grown(v), s.fisher.to(v)):
        operations_agree(replace(s, fisher=made, dense=made.to_dense()), exactly=False)
    s.fisher.add_product_(s.vector(1), v, 2.0)
    s.fisher.sample(2, 1.0)
    for name, t in s.fisher.tensors().items():
        assert torch.equal(t, before[name])
    assert s.fisher.shapes() == shapes


CHECKS = (
    shapes_are_those_of_the_parameters,
    dense_is_its_twin,
    product,
    parameters_are_told_by_name,
    quadratic_form,
    gradient_of_the_quadratic_form,
    solution,
    diagonal,
    trace,
    norm,
    log_determinant,
    eigenvalues,
    draws,
    draws_follow_the_seed,
    addition,
    multiplication,
    zero_times_it,
    merge_is_exact_or_says_its_error,
    merge_takes_the_memory_of_one,
    merge_keeps_positive_semi_definite,
    merging_again_and_again,
    completed_square,
    growth,
    growth_by_nothing,
    other_precision,
    parameters_of_16_bits,
    file,
    stored_form,
    nothing_changes_it,
)


def name(check):
    """For pytest's ids."""
    return check.__name__ if callable(check) else str(check)


def operations_agree(s, exactly=True):
    """A few operations that together touch all that is kept of a matrix."""
    if exactly:
        dense_is_its_twin(s)
    for check in (product, quadratic_form, solution, diagonal, trace, norm, log_determinant, eigenvalues):
        check(replace(s, tolerance=max(s.tolerance, 1e-9)))


def same(one, two):
    assert type(one) is type(two)
    assert one.info == two.info
    assert one.form() == json.loads(json.dumps(two.form()))
    assert list(one.shapes().items()) == list(two.shapes().items())
    assert list(one.tensors()) == list(two.tensors())
    for name_, t in two.tensors().items():
        assert one.tensors()[name_].dtype == t.dtype
        assert torch.equal(one.tensors()[name_], t)
    torch.testing.assert_close(one.to_dense(), two.to_dense(), rtol=1e-12, atol=1e-12)  # strides differ


def without_error(info):
    return {key: value for key, value in info.items() if key != "merge_error"}
