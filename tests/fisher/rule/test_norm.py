"""Normalisations against autograd, one example at a time."""

import pytest
import torch
from torch import nn

from cl_fisher.fisher import estimate_fisher
from cl_fisher.fisher.reference import brute_force
from cl_fisher.fisher.rule.norm import NormRule


def tracked(module):
    """In evaluation mode, with statistics that are not those of a new module."""
    if module.running_mean is not None:
        module.running_mean.normal_()
        module.running_var.uniform_(0.5, 2.0)
    return module.eval()


CASES = [
    (lambda: tracked(nn.BatchNorm1d(4)), (5, 4)),
    (lambda: tracked(nn.BatchNorm1d(4, eps=0.1)), (5, 4, 6)),
    (lambda: tracked(nn.BatchNorm2d(4)), (5, 4, 3, 2)),
    (lambda: tracked(nn.BatchNorm3d(4)), (5, 4, 3, 2, 2)),
    (lambda: nn.LayerNorm(4), (5, 4)),
    (lambda: nn.LayerNorm(4, eps=0.1), (5, 3, 4)),
    (lambda: nn.LayerNorm(4, bias=False), (5, 2, 3, 4)),
    (lambda: nn.LayerNorm((3, 4)), (5, 3, 4)),
    (lambda: nn.LayerNorm((3, 4)), (5, 2, 3, 4)),
    (lambda: nn.RMSNorm(4), (5, 4)),
    (lambda: nn.RMSNorm((3, 4), eps=0.1), (5, 2, 3, 4)),
    (lambda: nn.GroupNorm(2, 4), (5, 4)),
    (lambda: nn.GroupNorm(2, 4, eps=0.1), (5, 4, 3)),
    (lambda: nn.GroupNorm(1, 4), (5, 4, 3, 2)),
    (lambda: nn.GroupNorm(4, 4), (5, 4, 3, 2, 2)),
    (lambda: nn.InstanceNorm1d(4, affine=True), (5, 4, 6)),
    (lambda: nn.InstanceNorm2d(4, affine=True, eps=0.1), (5, 4, 3, 2)),
    (lambda: nn.InstanceNorm3d(4, affine=True), (5, 4, 3, 2, 2)),
    (lambda: nn.InstanceNorm2d(4, affine=True, track_running_stats=True).train(), (5, 4, 3, 2)),
    (lambda: tracked(nn.InstanceNorm2d(4, affine=True, track_running_stats=True)), (5, 4, 3, 2)),
]


@pytest.mark.parametrize("chunk", [1, 2**19])
@pytest.mark.parametrize(("make", "shape"), CASES)
def test_every_kind(make, shape, chunk, check_rule, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr("cl_fisher.fisher.rule.norm._CHUNK_BYTES", chunk)
    module = make()
    for p in module.parameters():
        nn.init.normal_(p)
    check_rule(NormRule(), module, 3 + 2 * torch.randn(shape))


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: tracked(nn.BatchNorm1d(4)), (3, 5, 4)),
        (lambda: tracked(nn.BatchNorm2d(4)), (3, 5, 4, 3, 2)),
        (lambda: nn.InstanceNorm1d(4, affine=True), (3, 5, 4, 6)),
        (lambda: nn.GroupNorm(2, 4), (3, 5, 4, 6)),
        (lambda: nn.LayerNorm((4, 6)), (3, 5, 4, 6)),
    ],
)
def test_several_inputs_for_each_example(make, shape):
    torch.manual_seed(0)
    module, rule, inputs = make().double(), NormRule(), torch.randn(shape, dtype=torch.float64)
    gradients = [torch.randn_like(inputs) for _ in range(2)]
    assert rule.covers(module, inputs)
    each = [
        {n: w.unflatten(0, shape[:2]).sum(1) for n, w in found.items()}
        for found in (rule.per_example(module, inputs.flatten(0, 1), g.flatten(0, 1)) for g in gradients)
    ]
    for name, w in rule.per_example(module, inputs, gradients[0]).items():
        torch.testing.assert_close(w, each[0][name])
        squares = sum(e[name].square().sum(0) for e in each)
        torch.testing.assert_close(rule.squares(module, inputs, gradients)[name], squares)


def test_what_is_not_covered():
    class Shifted(nn.LayerNorm):
        def forward(self, x):
            return super().forward(x) + 1

    rule, rows = NormRule(), torch.randn(5, 4)
    assert not rule.covers(nn.BatchNorm1d(4), rows)  # training mode
    assert not rule.covers(nn.BatchNorm1d(4, track_running_stats=False).eval(), rows)
    assert not rule.covers(Shifted(4), rows)
    assert not rule.covers(nn.LayerNorm(4), rows[0])
    assert not rule.covers(nn.LayerNorm((5, 4)), rows)
    assert not rule.covers(nn.InstanceNorm1d(5, affine=True), torch.randn(5, 4))
    assert not rule.covers(nn.BatchNorm2d(4).eval(), torch.randn(2, 5, 3, 2))
    assert not rule.covers(nn.Linear(4, 4), rows)


class Residual(nn.Module):
    """Layer norms on sequences, one of them with time first, and batch norm over rows that are positions."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.three = nn.LayerNorm(3), nn.LayerNorm(3), nn.BatchNorm1d(3)
        self.out = nn.Linear(3, 4)
        nn.init.uniform_(self.three.running_var, 0.5, 2.0)

    def forward(self, x):
        x = x.unflatten(1, (4, 3))
        x = x + torch.tanh(self.one(x))
        x = x + torch.tanh(self.two(x.transpose(0, 1)).transpose(0, 1))
        x = self.three(x.flatten(0, 1)).unflatten(0, (-1, 4))
        return self.out(torch.tanh(x).mean(1))


def by_batch():
    return nn.Sequential(nn.Linear(12, 5), nn.BatchNorm1d(5, track_running_stats=False), nn.Tanh(), nn.Linear(5, 4))


MODELS = {
    "batch": lambda: nn.Sequential(
        nn.Unflatten(1, (3, 2, 2)),
        nn.Conv2d(3, 4, 2, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(36, 4),
    ),
    "group": lambda: nn.Sequential(
        nn.Unflatten(1, (4, 3)),
        nn.GroupNorm(2, 4),
        nn.Tanh(),
        nn.InstanceNorm1d(4, affine=True),
        nn.Flatten(),
        nn.Linear(12, 4),
    ),
    "residual": Residual,
}


@pytest.mark.parametrize("name", MODELS)
def test_estimate_equals_brute_force_and_fallback(name, monkeypatch):
    torch.manual_seed(2)
    model, inputs = MODELS[name]().double().eval(), torch.randn(7, 12, dtype=torch.float64)
    batches = [(inputs[:4], torch.zeros(4, dtype=torch.long)), (inputs[4:], torch.zeros(3, dtype=torch.long))]
    found = torch.cat([t.flatten() for t in estimate_fisher(model, batches).diagonal().values()])
    torch.testing.assert_close(found, brute_force(model, inputs).diagonal(), rtol=1e-10, atol=1e-12)
    monkeypatch.setattr("cl_fisher.fisher.capture.RULES", ())
    again = torch.cat([t.flatten() for t in estimate_fisher(model, batches).diagonal().values()])
    torch.testing.assert_close(found, again, rtol=1e-10, atol=1e-12)
