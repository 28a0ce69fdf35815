"""Awkward models, each against brute force in float64, in any batches, and left as they were."""

import contextlib
import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from cl_fisher.error import InputError
from cl_fisher.fisher import estimate_fisher, fallback
from cl_fisher.fisher.reference import brute_force
from tests.fisher.models import MODELS, Model, N, embedding, make

ONE_BY_ONE = (
    "prelu",
    "one after the other",
    "mixture of experts",
    "packed",
    "inner gradient",
    "scripted",
)
"""Models that vmap cannot do, or does wrong, and that rules do not cover as a whole."""
BY_RULES = (
    *("mlp", "no bias", "in-place", "two names", "reused", "never called", "by keyword", "functional only", "frozen"),
    *("lora", "branches", "dropout", "sequences", "grids", "positions as rows", "in-place on a view", "checkpointed"),
    *("in-place residual", "separate projections", "lstm", "lstm with everything", "gru", "rnn", "cells", "time first"),
    *("fourier", "custom function", "frozen attention", "hooked", "backbone without gradients"),
)
"""Models that no fallback is needed for."""

SLOW = [pytest.param(name, marks=[pytest.mark.slow] if name == "compiled" else []) for name in MODELS]
SAME_SIZE = ("time first", "prototypes")
"""Models that have another dimension as long as the whole batch."""


def flat(named):
    return torch.cat([t.flatten() for t in named.values()])


def batches(inputs, targets, sizes, order=None):
    order = torch.arange(N) if order is None else order
    return list(zip(inputs[order].split(sizes), targets[order].split(sizes), order.split(sizes), strict=True))


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-14)


def state(model):
    """All that an estimate could leave behind: per module its attributes, and of each tensor all that one can see."""
    torch_tensors = [*model.parameters(), *model.buffers()]
    return (
        [{key: _kept(value) for key, value in vars(m).items()} for m in model.modules()],
        [(id(t), t._version, t.requires_grad, id(t.grad)) for t in torch_tensors],
        [t.detach().clone() for t in torch_tensors],
        torch.get_rng_state(),
    )


def _kept(value):
    return copy.copy(value) if isinstance(value, (dict, list, set)) else value


def assert_same_state(before, after):
    if isinstance(before, torch.Tensor):
        assert torch.equal(before, after)
    elif isinstance(before, dict):
        assert list(before) == list(after)
        assert_same_state(list(before.values()), list(after.values()))
    elif isinstance(before, (list, tuple)):
        assert len(before) == len(after)
        for b, a in zip(before, after, strict=True):
            assert b is a or assert_same_state(b, a) is None
    else:
        assert before == after


@pytest.mark.parametrize("name", SLOW)
def test_diagonal_equals_brute_force(name):
    model, inputs, targets = make(name)
    truth = brute_force(model, inputs.clone()).diagonal()
    before = state(model)
    with warnings.catch_warnings():
        if name in ONE_BY_ONE:
            warnings.filterwarnings("ignore", "Fisher example by example")
        found = estimate_fisher(model, batches(inputs, targets, [N] if name in SAME_SIZE else [4, 5, 2])).diagonal()
    assert_same_state(before, state(model))
    trainable = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert {n: f.shape for n, f in found.items()} == {n: p.shape for n, p in trainable.items()}
    close(flat(found), truth)
    for (n, mine), true in zip(found.items(), truth.split([p.numel() for p in trainable.values()]), strict=True):
        assert bool(mine.any()) == bool(true.any()), n  # zero only where the outputs do not depend on it at all


@pytest.mark.filterwarnings("ignore:Fisher example by example")
@pytest.mark.parametrize("name", SLOW)
def test_one_column_and_other_batches_and_another_order(name):
    """The empirical Fisher, whose examples must stay with their labels."""
    model, inputs, targets = make(name)
    truth = brute_force(model, inputs.clone(), targets).diagonal()
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    close(flat(estimate_fisher(model, batches(inputs, targets, 3, order), estimator="empirical").diagonal()), truth)


@pytest.mark.parametrize("name", BY_RULES)
def test_rules_cover_all_of_it(name, monkeypatch):
    monkeypatch.setattr(fallback, "_by_vmap", None)
    monkeypatch.setattr(fallback, "one_by_one", None)
    model, inputs, targets = make(name)
    estimate_fisher(model.float(), [(inputs.float(), targets)])


@pytest.mark.parametrize("name", ["mlp", "lstm", "transformer", "lora", "branches", "batch norm", "spectral norm"])
def test_no_trace_of_an_estimate_that_fails(name):
    model, inputs, targets = make(name)
    model.train()
    next(model.children()).eval()
    before, modes = state(model), [m.training for m in model.modules()]
    with pytest.raises(ValueError, match="targets"):
        estimate_fisher(model, batches(inputs, torch.where(torch.arange(N) == 9, 99, targets), 4))
    assert [m.training for m in model.modules()] == modes
    assert_same_state(before, state(model))


class Moving(nn.Linear):
    """Puts another tensor in its buffer's place at every call; `used`: and computes with it."""

    def __init__(self, used):
        super().__init__(6, 4)
        self.used = used
        self.register_buffer("mean", torch.zeros(6))

    def forward(self, x):
        self.mean = self.mean / 2 + x.detach().mean(0) / 2
        return super().forward(x - self.mean if self.used else x)


@pytest.mark.parametrize("used", [False, True])
def test_a_buffer_that_is_another_tensor_afterwards_is_put_back(used):
    torch.manual_seed(0)
    model, batch = Moving(used), (torch.randn(8, 6), torch.zeros(8, dtype=torch.long))
    before = state(model)
    with pytest.raises(InputError, match="changes a buffer") if used else contextlib.nullcontext():
        estimate_fisher(model, [batch])
    assert_same_state(before, state(model))


@pytest.mark.filterwarnings("ignore:Fisher example by example")
def test_sparse_gradients_are_the_dense_ones():
    found = []
    for sparse in (True, False):
        torch.manual_seed(0)
        model = embedding(sparse=sparse).double()
        found.append(estimate_fisher(model, [(torch.arange(35).reshape(7, 5) % 7, torch.arange(7) % 4)]).diagonal())
    close(flat({name: f.to_dense() for name, f in found[0].items()}), flat(found[1]))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_lora_adapters_of_peft():
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    config = peft.LoraConfig(target_modules=["0", "2"], r=2, modules_to_save=["4"], lora_dropout=0.1)
    base = nn.Sequential(nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 4))
    model, inputs = peft.get_peft_model(base, config).double().eval(), torch.randn(N, 6, dtype=torch.float64)
    for name, p in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(p)
    found = estimate_fisher(model, [(inputs, torch.zeros(N, dtype=torch.long))]).diagonal()
    assert sum("lora" in name for name in found) == 4
    close(flat(found), brute_force(model, inputs).diagonal())


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: Model(lambda m, x: functional.dropout(m.out(x)), out=nn.Linear(6, 4)), "draws at random"),
        (
            lambda: nn.Sequential(nn.BatchNorm1d(6, track_running_stats=False), nn.Linear(6, 4)),
            "depend on the other examples",
        ),
        (lambda: nn.LazyLinear(4), "no shape yet"),
        (lambda: nn.Bilinear(6, 6, 4), "one argument.*forward.*input1.*input2.*wrap it"),
        (lambda: torch.sin, "must be a torch.nn.Module, not builtin"),
        (
            lambda: Model(
                lambda m, x: m.out(checkpoint(m.block, x.requires_grad_(), use_reentrant=True)),
                block=nn.Linear(6, 5),
                out=nn.Linear(5, 4),
            ),
            "use_reentrant=False",
        ),
    ],
    ids=["random", "mixing", "lazy", "two arguments", "function", "hidden"],
)
def test_models_without_a_fisher_are_refused(model, message):
    torch.manual_seed(0)
    with pytest.raises(InputError, match=message):
        estimate_fisher(model(), [(torch.randn(8, 6), torch.zeros(8, dtype=torch.long))])
