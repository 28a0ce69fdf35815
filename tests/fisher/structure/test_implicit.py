"""The implicit Fisher against the dense matrix from the definition, and Krylov methods against dense algebra."""

import math
import warnings

import pytest
import torch
from torch import nn

from cl_fisher.error import InputError
from cl_fisher.fisher import estimate_fisher
from cl_fisher.fisher.batches import Batch
from cl_fisher.fisher.estimator.empirical import Empirical
from cl_fisher.fisher.estimator.exact import Exact
from cl_fisher.fisher.reference import brute_force
from cl_fisher.fisher.structure import implicit, lanczos
from cl_fisher.fisher.structure.implicit import ImplicitStructure
from cl_fisher.strategy.ewc import EWC


class Mlp(nn.Module):
    def __init__(self, n_outputs=4):
        super().__init__()
        self.first, self.out = nn.Linear(6, 5), nn.Linear(5, n_outputs)

    def forward(self, x):
        return self.out(torch.tanh(self.first(x)))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.out = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 4)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.out(torch.tanh(self.second(torch.tanh(self.first(x)))))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention, self.out = nn.MultiheadAttention(2, 1, batch_first=True), nn.Linear(2, 4)

    def forward(self, x):
        x = x.unflatten(1, (3, 2))
        return self.out(self.attention(x, x, x, need_weights=False)[0].mean(1))


class Bag(nn.Module):
    """Neither forward-mode nor twice differentiable."""

    def __init__(self):
        super().__init__()
        self.bag, self.out = nn.EmbeddingBag(5, 3), nn.Linear(3, 4)

    def forward(self, x):
        return self.out(self.bag((x[:, :3] > 0).long()))


class Square(torch.autograd.Function):
    """No forward-mode rule, but twice differentiable."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        return 2 * ctx.saved_tensors[0] * g


class Backwards(Mlp):
    def forward(self, x):
        return self.out(Square.apply(self.first(x)))


class Cnn(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Unflatten(1, (1, 2, 3)),
            nn.Conv2d(1, 3, 2, padding=1),
            nn.BatchNorm2d(3),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(3, 4),
        )


def flat(named):
    return torch.cat([t.flatten() for t in named.values()])


def parameters_of(model):
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def made(model, inputs, targets, estimator=None, batch=4):
    batches = list(zip(inputs.split(batch), targets.split(batch), strict=True))
    return estimate_fisher(model, batches, estimator=estimator or Exact(), structure=ImplicitStructure())


def case(make=Mlp, n=11, seed=0):
    torch.manual_seed(seed)
    model = make().double().eval()
    return model, torch.randn(n, 6, dtype=torch.float64), torch.randint(4, (n,))


def point(model, seed=5):
    generator = torch.Generator().manual_seed(seed)
    return {
        n: torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p) for n, p in parameters_of(model).items()
    }


@pytest.mark.filterwarnings("ignore:Fisher example by example")
@pytest.mark.parametrize("make", [Mlp, Tied, Attention, Backwards, Cnn])
@pytest.mark.parametrize("estimator", [Exact(), Empirical()])
def test_products_equal_brute_force(make, estimator):
    model, x, y = case(make)
    fisher, v = made(model, x, y, estimator), point(model)
    dense = brute_force(model, x, y if isinstance(estimator, Empirical) else None)
    assert fisher.terms[0][0].forwards == (make is not Backwards)
    tight = {"rtol": 1e-10, "atol": 1e-12}
    torch.testing.assert_close(flat(fisher.mv(v)), dense @ flat(v), **tight)
    torch.testing.assert_close(fisher.quadratic(v), flat(v) @ dense @ flat(v), **tight)
    torch.testing.assert_close(flat(fisher.diagonal()), dense.diagonal(), **tight)
    torch.testing.assert_close(fisher.to_dense(), dense, **tight)
    assert fisher.trace() == pytest.approx(float(dense.trace()), rel=1e-10)
    target = point(model, 6)
    expected = flat(target) + 3 * dense @ flat(v)
    fisher.add_product_(target, v, 3.0)
    torch.testing.assert_close(flat(target), expected, **tight)


def test_spectrum_solve_and_norm_of_a_small_one():
    model, x, y = case()
    fisher, v, dense = made(model, x, y), point(model), brute_force(model, x)
    eye = torch.eye(len(dense), dtype=torch.float64)
    torch.testing.assert_close(
        fisher.eigenvalues(), torch.linalg.eigvalsh(dense).flip(0).clamp(min=0), rtol=1e-10, atol=1e-12
    )
    assert fisher.largest_eigenvalue() == pytest.approx(float(torch.linalg.eigvalsh(dense)[-1]), rel=1e-4)
    assert fisher.norm() == pytest.approx(float(dense.norm()), rel=1e-10)
    assert fisher.logdet(0.1) == pytest.approx(float(torch.logdet(dense + 0.1 * eye)), rel=1e-10)
    for damping in (1.0, 1e-4):
        solved = flat(fisher.solve(v, damping))
        torch.testing.assert_close(
            solved, torch.linalg.solve(dense + damping * eye, flat(v)), rtol=1e-6, atol=1e-6 / damping
        )
        assert float((dense @ solved + damping * solved - flat(v)).norm() / flat(v).norm()) < 1e-9


def test_without_damping_only_what_is_in_the_range_is_solved():
    model, x, y = case()
    fisher, v = made(model, x, y), point(model)
    seen = fisher.mv(v)
    torch.testing.assert_close(flat(fisher.mv(fisher.solve(seen, 0.0))), flat(seen), rtol=1e-6, atol=1e-8)
    with pytest.raises(InputError, match="larger damping"):
        fisher.solve(v, 0.0)
    with pytest.raises(InputError, match="at least 0"):
        fisher.solve(v, -1.0)


def test_samples_have_the_inverse_as_covariance():
    model, x, y = case()
    dense = brute_force(model, x)
    draws = made(model, x, y, batch=11).sample(100, damping=0.3, seed=3)
    flattened = torch.cat([d.flatten(1) for d in draws.values()], 1)
    precision = dense + 0.3 * torch.eye(len(dense), dtype=torch.float64)
    # x^T (F + damping) x of a draw is chi-squared with P degrees of freedom
    squares = torch.einsum("ni,ij,nj->n", flattened, precision, flattened)
    assert float(squares.mean()) == pytest.approx(len(dense), abs=4 * math.sqrt(2 * len(dense) / 100))
    top = torch.linalg.eigh(precision)
    assert float((flattened @ top.eigenvectors[:, -1]).var()) == pytest.approx(1 / float(top.eigenvalues[-1]), rel=0.5)


def test_sum_factor_and_growth():
    (model, x, y), (other, x2, y2) = case(), case(seed=1)
    both = 2 * made(model, x, y) + made(other, x2, y2)
    expected = 2 * brute_force(model, x) + brute_force(other, x2)
    torch.testing.assert_close(both.to_dense(), expected, rtol=1e-10, atol=1e-12)
    v = point(model)
    torch.testing.assert_close(flat(both.mv(v)), expected @ flat(v))
    torch.testing.assert_close(both.quadratic(v), flat(v) @ expected @ flat(v))
    torch.testing.assert_close(flat(both.diagonal()), expected.diagonal())
    large = {n: torch.zeros_like(p) for n, p in Mlp(6).double().named_parameters()} | {"new": torch.zeros(2)}
    grown = made(model, x, y).grown(large)
    v = {n: torch.randn_like(p) for n, p in large.items()}
    small = {n: v[n][tuple(slice(k) for k in p.shape)] for n, p in parameters_of(model).items()}
    torch.testing.assert_close(grown.quadratic(v), made(model, x, y).quadratic(small))
    assert {n: t.shape for n, t in grown.mv(v).items()} == {n: p.shape for n, p in large.items()}
    torch.testing.assert_close(grown.to_dense() @ flat(v), flat(grown.mv(v)), rtol=1e-10, atol=1e-12)
    assert grown.trace() == pytest.approx(made(model, x, y).trace())
    with pytest.raises(InputError, match="differ in parameter"):
        grown + made(model, x, y)


def test_it_is_the_model_of_then():
    model, x, y = case(Cnn)
    fisher, v = made(model, x, y), point(model)
    before = fisher.quadratic(v).clone()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1.0)
        x.zero_()
    model.train()(torch.randn(5, 6, dtype=torch.float64))
    assert torch.equal(fisher.quadratic(v), before)
    with torch.no_grad(), torch.autocast("cpu"):
        assert torch.equal(fisher.quadratic(v), before)
        fisher.mv(v)
        fisher.to_dense()
    assert all(p.grad is None for p in model.parameters())


def test_frozen_parameters_are_left_out():
    model, x, y = case()
    model.first.requires_grad_(False)
    fisher = made(model, x, y)
    assert list(fisher.shapes()) == ["out.weight", "out.bias"] == list(fisher.mv(point(model)))
    torch.testing.assert_close(fisher.to_dense(), brute_force(model, x), rtol=1e-10, atol=1e-12)


def test_moved_in_type():
    model, x, y = case()
    fisher = made(model.float(), x.float(), y).to({n: p.double() for n, p in model.named_parameters()})
    assert fisher.quadratic(point(model.double())).dtype == torch.float64
    assert fisher.to(parameters_of(model)).terms[0][0] is fisher.terms[0][0]
    assert (
        fisher.to({n: p.bfloat16() for n, p in model.named_parameters()}).diagonal()["out.bias"].dtype == torch.float32
    )


def test_what_it_refuses(monkeypatch, tmp_path):
    model, x, y = case()
    fisher = made(model, x, y)
    for refused in (fisher.tensors, lambda: fisher.save(tmp_path / "f")):
        with pytest.raises(InputError, match="cannot be stored"):
            refused()
    assert fisher.bytes > x.numel() * 8
    monkeypatch.setattr(implicit, "SMALL", 10)
    with pytest.raises(InputError, match="largest_eigenvalue"):
        fisher.eigenvalues()
    with pytest.raises(InputError, match="greater than 0"):
        fisher.logdet(0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bag, x, y = case(Bag)
        with pytest.raises(InputError, match="forwards or twice"):
            made(bag, x, y)


def test_norm_and_logdet_of_a_large_one(monkeypatch):
    model, x, y = case(n=16)
    fisher, dense = made(model, x, y, batch=16), brute_force(model, x)
    monkeypatch.setattr(implicit, "SMALL", 10)
    assert fisher.norm() == pytest.approx(float(dense.norm()), rel=0.04)
    informed = float((torch.linalg.eigvalsh(dense) / 0.01).clamp(min=0).log1p().sum())
    floor = len(dense) * math.log(0.01)
    assert fisher.logdet(0.01) - floor == pytest.approx(informed, rel=0.04)


def symmetric(values, seed=0):
    torch.manual_seed(seed)
    q = torch.linalg.qr(torch.randn(len(values), len(values), dtype=torch.float64)).Q
    return (q * values) @ q.T


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("decay", [1.0, 3.0])
def test_krylov_methods_equal_dense(dtype, decay):
    values = torch.arange(1, 301, dtype=torch.float64) ** -decay
    matrix = symmetric(values).to(dtype)
    v = torch.randn(300, dtype=torch.float64).to(dtype)
    product = matrix.__matmul__
    assert lanczos.largest(product, v, 1e-4) == pytest.approx(1.0, rel=1e-4)
    root = torch.linalg.eigh(matrix.double())
    expected = (root.eigenvectors * (root.eigenvalues + 1e-2).rsqrt()) @ root.eigenvectors.T @ v.double()
    found = lanczos.function_times(product, v, lambda x: (x + 1e-2).rsqrt(), 1e-4)
    assert float((found.double() - expected).norm() / expected.norm()) < 5e-4
    estimates = [
        lanczos.trace_of(product, v, torch.square, 0.02, torch.Generator().manual_seed(i), steps=20) for i in range(20)
    ]
    truth = float(values.square().sum())
    assert sum(estimates) / 20 == pytest.approx(truth, rel=3 * 0.02 / math.sqrt(20))
    assert max(abs(e - truth) for e in estimates) < 4 * 0.02 * truth


def test_an_exhausted_krylov_space_is_exact():
    matrix = symmetric(torch.cat([torch.tensor([3.0, 2.0, 1.0]), torch.zeros(47)]).double())
    v = torch.randn(50, dtype=torch.float64)
    krylov = lanczos.Lanczos(matrix.__matmul__, v)
    while krylov.step():
        pass
    assert krylov.n <= 5
    torch.testing.assert_close(krylov.ritz()[0][-3:], torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    assert lanczos.largest(lambda x: 0 * x, v, 1e-4) == 0.0
    with pytest.raises(InputError, match="larger damping"):
        lanczos.function_times(
            symmetric(torch.linspace(1e-9, 1, 60).double()).__matmul__,
            v.new_ones(60),
            lambda x: x.rsqrt(),
            1e-9,
            most=10,
        )


def test_columns_come_in_parts_and_data_from_one_process_only():
    model, x, _ = case()
    accumulator = ImplicitStructure().accumulator(model, parameters_of(model))
    columns = torch.randn(3, 11, 4, dtype=torch.float64)
    batch = Batch(x, True, torch.zeros(11), torch.arange(11))
    accumulator.add_batch(batch, columns[:1])
    accumulator.add_batch(batch, columns[1:])
    sums = accumulator.sums()
    fisher = accumulator.finish(11, {})
    assert len(fisher.terms[0][0].batches) == 1
    v = point(model)
    pushed = torch.func.jvp(lambda q: torch.func.functional_call(model, q, x), (parameters_of(model),), (v,))[1]
    torch.testing.assert_close(fisher.quadratic(v), (columns * pushed).sum(-1).square().sum() / 11)
    sums[0].mul_(2)  # what a reduction over two processes does
    with pytest.raises(InputError, match="one process"):
        accumulator.finish(22, {})


def test_importance_weights_are_in_the_columns():
    model, x, y = case()
    batches = [(x, y)]
    of = {"samples": 5, "sampling": "importance"}
    implicit_, diagonal = (
        estimate_fisher(model, batches, structure=s, **of) for s in (ImplicitStructure(), "diagonal")
    )
    torch.testing.assert_close(flat(implicit_.diagonal()), flat(diagonal.diagonal()), rtol=1e-10, atol=1e-12)


def test_as_the_penalty_of_two_tasks():
    model, x, y = case()
    ewc = EWC(model, strength=3.0, structure=ImplicitStructure())
    anchors, dense = [], []
    for shift in (0.0, 0.3):
        with torch.no_grad():
            for p in model.parameters():
                p.add_(shift)
        ewc.consolidate([(x, y)])
        anchors.append(flat(model.state_dict()).clone())
        dense.append(brute_force(model, x))
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1.1)
    model.zero_grad()
    ewc.add_gradient()
    now = flat(model.state_dict())
    expected = sum(3.0 * f @ (now - a) for f, a in zip(dense, anchors, strict=True))
    torch.testing.assert_close(torch.cat([p.grad.flatten() for p in model.parameters()]), expected)
    value = sum(1.5 * (now - a) @ f @ (now - a) for f, a in zip(dense, anchors, strict=True))
    assert ewc.penalty() == pytest.approx(float(value))
    with pytest.raises(InputError, match="cannot be stored"):
        ewc.state_dict()
