"""Every estimate against brute force in float64, closed forms, and invariants."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from cl_fisher.error import InputError
from cl_fisher.fisher import estimate_fisher
from cl_fisher.fisher.reference import brute_force
from tests.fisher.models import MODELS, make


def flat(named):
    return torch.cat([t.flatten() for t in named.values()])


def test_a_model_that_vmap_cannot_do_says_so_and_is_right():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale, self.out = nn.Parameter(torch.rand(6)), nn.Linear(6, 4)

        def forward(self, x):
            return self.out(x * self.scale) if x.sum().item() < 1e9 else self.out(x)

    torch.manual_seed(0)
    model, inputs = Branching().double(), torch.randn(5, 6, dtype=torch.float64)
    with pytest.warns(UserWarning, match="example by example"):
        fisher = estimate_fisher(model, [(inputs, torch.zeros(5, dtype=torch.long))])
    torch.testing.assert_close(flat(fisher.diagonal()), brute_force(model, inputs).diagonal(), rtol=1e-10, atol=1e-12)


def test_fallback_in_small_parts_is_the_same(monkeypatch):
    model, inputs, targets = make("convolution")
    whole = estimate_fisher(model, [(inputs, targets)])
    monkeypatch.setattr("cl_fisher.fisher.estimate._BYTES", 1)
    torch.testing.assert_close(flat(estimate_fisher(model, [(inputs, targets)]).diagonal()), flat(whole.diagonal()))


def test_long_sequences_in_small_parts_are_the_same(monkeypatch):
    model, inputs, targets = make("sequences")
    whole = estimate_fisher(model, [(inputs, targets)])
    monkeypatch.setattr("cl_fisher.fisher.rule.linear.CHUNK_BYTES", 1)
    torch.testing.assert_close(flat(estimate_fisher(model, [(inputs, targets)]).diagonal()), flat(whole.diagonal()))


def test_softmax_regression_fisher_is_the_hessian_for_any_labels():
    torch.manual_seed(0)
    model, inputs = nn.Linear(5, 3).double(), torch.randn(9, 5, dtype=torch.float64)
    targets = torch.randint(0, 3, (9,))

    def loss(weight, bias):
        return functional.cross_entropy(functional.linear(inputs, weight, bias), targets)

    hessian = torch.autograd.functional.hessian(loss, (model.weight, model.bias))
    fisher = estimate_fisher(model, [(inputs, targets)]).diagonal()
    torch.testing.assert_close(
        fisher["weight"].flatten(), hessian[0][0].reshape(15, 15).diagonal(), rtol=1e-10, atol=1e-13
    )
    torch.testing.assert_close(fisher["bias"], hessian[1][1].diagonal(), rtol=1e-10, atol=1e-13)


def test_fisher_is_the_curvature_of_the_kl_divergence():
    model, inputs, targets = make("mlp")
    fisher = estimate_fisher(model, [(inputs, targets)]).diagonal()["0.weight"]
    with torch.no_grad():
        before, eps = model(inputs).log_softmax(-1), 1e-4
        for i, j in [(0, 0), (3, 2), (6, 5)]:
            model[0].weight[i, j] += eps
            kl = (before.exp() * (before - model(inputs).log_softmax(-1))).sum(-1).mean()
            model[0].weight[i, j] -= eps
            assert kl.item() == pytest.approx(0.5 * eps**2 * fisher[i, j].item(), rel=1e-3)


@pytest.mark.parametrize("size", [1, 3, 11])
def test_batch_size_and_order_do_not_matter(size):
    model, inputs, targets = make("mlp")
    order = torch.randperm(11, generator=torch.Generator().manual_seed(size))
    batches = zip(inputs[order].split(size), targets[order].split(size), strict=True)
    torch.testing.assert_close(
        flat(estimate_fisher(model, batches).diagonal()), flat(estimate_fisher(model, [(inputs, targets)]).diagonal())
    )


def test_active_classes_are_a_network_without_the_others():
    model, inputs, _ = make("mlp")
    targets = torch.tensor([1, 3]).repeat(6)[:11]
    fisher = estimate_fisher(model, [(inputs, targets)], classes=[1, 3])
    torch.testing.assert_close(
        flat(fisher.diagonal()), brute_force(model, inputs, classes=[1, 3]).diagonal(), rtol=1e-10, atol=1e-12
    )
    assert fisher.diagonal()["2.weight"][[0, 2]].abs().max() == 0
    empirical = estimate_fisher(model, [(inputs, targets)], estimator="empirical", classes=[3, 1])
    truth = brute_force(model, inputs, (targets == 1).long(), classes=[3, 1]).diagonal()
    torch.testing.assert_close(flat(empirical.diagonal()), truth, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("gap", [5.0, 30.0, 80.0])
@pytest.mark.parametrize("n_classes", [2, 10])
def test_overconfident_network_in_float32(gap, n_classes):
    """Logit gaps at which 1 - p and diag(p) - pp^T are zero in float32."""
    torch.manual_seed(0)
    model, inputs = nn.Linear(4, n_classes), torch.randn(16, 4)
    with torch.no_grad():
        model.bias[0] += gap
    targets = torch.zeros(16, dtype=torch.long)
    for estimator in ("exact", "empirical"):
        single = flat(estimate_fisher(model.float(), [(inputs, targets)], estimator=estimator).diagonal()).double()
        double = flat(estimate_fisher(model.double(), [(inputs.double(), targets)], estimator=estimator).diagonal())
        assert single.isfinite().all()
        if estimator == "exact" or gap < 40:  # (e^-80)^2 is below what float32 can hold
            assert (double > 0).all()
            torch.testing.assert_close(single, double, rtol=1e-4, atol=0)


def test_samples_stops_early():
    model, inputs, targets = make("mlp")
    batches = [(inputs[:4], targets[:4]), (inputs[4:], targets[4:])]
    some = estimate_fisher(model, batches, samples=6)
    assert some.info["samples"] == 6
    torch.testing.assert_close(
        flat(some.diagonal()), flat(estimate_fisher(model, [(inputs[:6], targets[:6])]).diagonal())
    )


def test_index_and_empty_batches_are_accepted():
    model, inputs, targets = make("mlp")
    batches = [(inputs[:0], targets[:0]), (inputs, targets, torch.arange(11))]
    assert estimate_fisher(model, batches).info["samples"] == 11


@pytest.mark.parametrize("fails", [False, True])
def test_leaves_no_trace(fails):
    model, inputs, targets = make("batch norm")
    model.train()
    model[2].eval()
    model[0].weight.grad = torch.ones_like(model[0].weight)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    random = torch.get_rng_state()
    if fails:
        with pytest.raises(InputError):
            estimate_fisher(model, [(inputs, targets), (inputs, targets + 99)])
    else:
        with torch.no_grad():
            estimate_fisher(model, [(inputs, targets)])
    assert [m.training for m in model] == [True, True, False, True]
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert torch.equal(model[0].weight.grad, torch.ones_like(model[0].weight))
    assert model[3].weight.grad is None
    assert torch.equal(random, torch.get_rng_state())
    assert all(not m._forward_hooks for m in model.modules())


X, Y = torch.zeros(3, 6), torch.zeros(3, dtype=torch.long)


@pytest.mark.parametrize(
    ("options", "batches", "message"),
    [
        ({"estimator": "exactt"}, [(X, Y)], "fisher/estimator=exactt is unknown"),
        ({"structure": "diag"}, [(X, Y)], "fisher/structure=diag is unknown"),
        ({"likelihood": "normal"}, [(X, Y)], "likelihood=normal is unknown"),
        ({"sampling": "best"}, [(X, Y)], "fisher.sampling=best"),
        ({"samples": 0}, [(X, Y)], "samples=0 is out of range"),
        ({}, [], "no examples at all"),
        ({}, [X], r"must be \(inputs, targets\)"),
        ({}, [(X, Y.float())], "class indices"),
        ({}, [(X, Y + 4)], "outputs in 0..3"),
        ({"classes": [1, 2]}, [(X, Y)], "not among the active classes"),
        ({"classes": [1, 9]}, [(X, Y)], "distinct outputs"),
    ],
)
def test_bad_input(options, batches, message):
    with pytest.raises(InputError, match=message):
        estimate_fisher(nn.Linear(6, 4), batches, **options)


def test_a_model_without_trainable_parameters_is_refused():
    with pytest.raises(InputError, match="no parameter"):
        estimate_fisher(nn.Linear(6, 4).requires_grad_(False), [(X, Y)])


def test_outputs_that_are_no_logits_are_refused():
    with pytest.raises(InputError, match=r"shape \(3, 2, 2\)"):
        estimate_fisher(nn.Sequential(nn.Linear(6, 4), nn.Unflatten(1, (2, 2))), [(X, Y)])


def test_inputs_are_left_as_they_were():
    model, inputs, targets = make("changes its input")
    before = inputs.clone()
    estimate_fisher(model, [(inputs, targets)])
    assert torch.equal(inputs, before)


class Counting(nn.Module):
    """Moves a buffer even in evaluation mode."""

    def __init__(self):
        super().__init__()
        self.out = nn.Linear(6, 4)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        self.seen += len(x)
        return self.out(x)


def test_buffers_are_left_as_they_were():
    model = Counting()
    estimate_fisher(model, [(X, Y)])
    assert model.seen == 0


class Named(nn.Module):
    """Takes a dictionary with things that are no tensors, and one that is everybody's."""

    def __init__(self):
        super().__init__()
        self.norm, self.out = nn.LayerNorm(6), nn.Linear(6, 4)

    def forward(self, batch):
        assert batch["mask"] is None
        return self.out(self.norm(batch.pop("x")) * batch["times"] * batch["scale"])


@pytest.mark.parametrize(
    "budget", [2**28, 7000]
)  # bytes; the second is enough for six examples, as many as `scale` has entries
def test_inputs_may_be_structures(monkeypatch, budget):
    monkeypatch.setattr("cl_fisher.fisher.estimate._BYTES", budget)
    torch.manual_seed(0)
    model, x = Named().double(), torch.randn(9, 6, dtype=torch.float64)
    scale = torch.randn(6, dtype=torch.float64)
    fisher = estimate_fisher(model, [({"x": x, "mask": None, "times": 2, "scale": scale}, Y.repeat(3))])

    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, x):
            return self.inner({"x": x, "mask": None, "times": 2, "scale": scale})

    torch.testing.assert_close(flat(fisher.diagonal()), brute_force(Plain(), x).diagonal(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_models_of_16_bits_are_estimated_in_32(dtype):
    model, inputs, targets = make("mlp")
    model.to(dtype)
    with torch.no_grad():
        model[2].weight.mul_(1e-3)  # squares of what then flows back are below float16's smallest number
    fisher = estimate_fisher(model, [(inputs.to(dtype), targets)])
    assert {f.dtype for f in fisher.diagonal().values()} == {torch.float32}
    assert {p.dtype for p in model.parameters()} == {dtype}
    truth = brute_force(model.double(), inputs.to(dtype).double()).diagonal()
    torch.testing.assert_close(flat(fisher.diagonal()).double(), truth, rtol=1e-3, atol=0)


def test_autocast_and_inference_mode_around_it_do_not_matter():
    model, inputs, targets = make("layer norm")
    model.float()
    expected = flat(estimate_fisher(model, [(inputs.float(), targets)]).diagonal())
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(flat(estimate_fisher(model, [(inputs.float(), targets)]).diagonal()), expected)
    with torch.inference_mode():
        torch.testing.assert_close(flat(estimate_fisher(model, [(inputs.float(), targets)]).diagonal()), expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_targets_of_any_whole_type(dtype):
    model, inputs, targets = make("mlp")
    fisher = estimate_fisher(model, [(inputs, targets.to(dtype))], estimator="empirical", classes=torch.arange(4))
    truth = brute_force(model, inputs, targets).diagonal()
    torch.testing.assert_close(flat(fisher.diagonal()), truth, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("targets", [Y[:2], Y.repeat(2), Y[:, None], [0, 0, 0]])
def test_targets_that_do_not_fit(targets):
    with pytest.raises(InputError, match="targets"):
        estimate_fisher(nn.Linear(6, 4), [(X, targets)])


def test_outputs_that_are_not_finite_are_refused():
    with pytest.raises(InputError, match="not finite"):
        estimate_fisher(nn.Linear(6, 4), [(X * float("nan"), Y)])


def test_one_output_has_nothing_to_choose_from():
    with pytest.raises(InputError, match="two or more"):
        estimate_fisher(nn.Linear(6, 1), [(X, Y)])
    with pytest.raises(InputError, match="two or more"):
        estimate_fisher(nn.Linear(6, 4), [(X, Y)], classes=[0])


def test_complex_parameters_are_refused():
    with pytest.raises(InputError, match="complex"):
        estimate_fisher(nn.Linear(6, 4, dtype=torch.complex64), [(X, Y)])


def test_a_dataloader_draws_nothing_from_the_global_stream():
    data = torch.utils.data.TensorDataset(torch.randn(20, 6), torch.zeros(20, dtype=torch.long))
    loader = torch.utils.data.DataLoader(data, batch_size=5, shuffle=True)
    model = MODELS["mlp"]()
    before = torch.get_rng_state()
    estimate_fisher(model, loader)
    assert torch.equal(before, torch.get_rng_state())
