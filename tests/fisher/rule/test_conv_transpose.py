"""Transposed convolutions against autograd, one example at a time."""

from itertools import product

import pytest
import torch
from torch import nn

from cl_fisher.fisher import estimate_fisher
from cl_fisher.fisher.reference import brute_force
from cl_fisher.fisher.rule.conv_transpose import ConvTransposeRule

CONVOLUTIONS = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
SIZES = {1: (5,), 2: (4, 3), 3: (3, 3, 4)}


def options(n):
    found = []
    for kernel, stride, dilation, padding, groups, extra in product(
        (1, 2, 3), (1, 2, 3), (1, 2, 3), (0, 1), (1, 2, 4), (0, 1, 2)
    ):
        if extra < max(stride, dilation):
            given = {"stride": stride, "dilation": dilation, "padding": padding, "groups": groups}
            found.append((kernel, given | {"output_padding": extra}))
    return found[:: {1: 2, 2: 5, 3: 11}[n]]


@pytest.mark.parametrize("n", [1, 2, 3])
def test_every_option(n, check_rule):
    torch.manual_seed(n)
    for i, (kernel, given) in enumerate(options(n)):
        module = CONVOLUTIONS[n](4, 8, kernel, bias=i % 2 == 0, **given)
        check_rule(ConvTransposeRule(), module, torch.randn(3, 4, *SIZES[n]), n_columns=2)


def test_differs_by_dimension(check_rule):
    module = nn.ConvTranspose2d(4, 6, (3, 2), (2, 3), (0, 1), (1, 0), groups=2, dilation=(1, 2))
    check_rule(ConvTransposeRule(), module, torch.randn(4, 4, 3, 5))


@pytest.mark.parametrize("cache", [1, 3000, 20_000])
@pytest.mark.parametrize("groups", [1, 2])
def test_small_parts_are_the_same(cache, groups, check_rule, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr("cl_fisher.fisher.rule.correlation.RESULT_BYTES", cache)
    module = nn.ConvTranspose2d(4, 6, 3, stride=2, groups=groups)
    check_rule(ConvTransposeRule(), module, torch.randn(5, 4, 3, 4), n_columns=4)


def test_what_is_not_covered():
    rule = ConvTransposeRule()
    assert not rule.covers(nn.ConvTranspose2d(3, 4, 2), torch.randn(3, 5, 5))
    assert not rule.covers(nn.Conv2d(3, 4, 2), torch.randn(2, 3, 5, 5))


class WithSize(nn.Module):
    """Asks for an output size in the call; the second layer is given it by a keyword."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.ConvTranspose1d(2, 3, 3, stride=2), nn.ConvTranspose1d(3, 2, 3, stride=2)
        self.out = nn.Linear(30, 4)

    def forward(self, x):
        h = torch.tanh(self.one(x.unflatten(1, (2, 3)), [7]))
        return self.out(torch.tanh(self.two(h, output_size=[15])).flatten(1))


MODELS = {
    "plain": lambda: nn.Sequential(
        nn.Unflatten(1, (2, 3, 1)), nn.ConvTranspose2d(2, 3, 2, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(36, 4)
    ),
    "with size": WithSize,
}


@pytest.mark.parametrize("name", MODELS)
def test_estimate_equals_brute_force(name):
    torch.manual_seed(2)
    model, inputs = MODELS[name]().double(), torch.randn(7, 6, dtype=torch.float64)
    found = estimate_fisher(model, [(inputs, torch.zeros(7, dtype=torch.long))]).diagonal()
    found = torch.cat([t.flatten() for t in found.values()])
    torch.testing.assert_close(found, brute_force(model, inputs).diagonal(), rtol=1e-10, atol=1e-12)
