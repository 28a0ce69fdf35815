"""Group norm instead of batch norm."""

import pytest
import torch
from torch import nn

from cl_fisher.error import InputError
from cl_fisher.model.norm import batch_norms, group_norms_instead, n_groups
from cl_fisher.model.resnet import ResNet


@pytest.mark.parametrize(
    ("channels", "groups"), [(1, 1), (2, 1), (4, 2), (7, 1), (16, 8), (20, 10), (40, 20), (64, 32), (160, 32), (96, 32)]
)
def test_groups(channels, groups):
    assert n_groups(channels) == groups


@pytest.mark.parametrize("channels", range(1, 200))
def test_groups_by_their_definition(channels):
    fitting = [n for n in range(1, 33) if channels % n == 0 and (channels // n >= 2 or n == 1)]
    assert n_groups(channels) == max(fitting)


def test_every_layer_is_replaced_and_nothing_else():
    torch.manual_seed(0)
    model = ResNet((1, 8, 8), 3, depth=20, width=4)
    before, names = list(model.parameters()), [name for name, _ in model.named_parameters()]
    n = len(list(batch_norms(model)))
    group_norms_instead(model)
    assert list(batch_norms(model)) == []
    assert sum(isinstance(m, nn.GroupNorm) for m in model.modules()) == n == 21
    assert [name for name, _ in model.named_parameters()] == names
    assert all(a is b for a, b in zip(before, model.parameters(), strict=True))
    assert list(model.buffers()) == []
    inputs = torch.randn(5, 1, 8, 8)
    torch.testing.assert_close(model(inputs)[:1], model(inputs[:1]))  # examples do not mix


@pytest.mark.parametrize("affine", [True, False])
def test_scale_and_shift_stay(affine):
    model = nn.Sequential(nn.BatchNorm1d(6, eps=1e-3, affine=affine)).eval()
    for p in model.parameters():
        nn.init.normal_(p).requires_grad_(False)
    weights = dict(model[0].named_parameters())
    group_norms_instead(model)
    norm = model[0]
    assert (norm.num_groups, norm.eps, norm.affine, norm.training) == (3, 1e-3, affine, False)
    assert all(not p.requires_grad for p in model.parameters())
    x = torch.randn(4, 6)
    pairs = x.view(4, 3, 2)
    expected = (pairs - pairs.mean(2, keepdim=True)) / (pairs.var(2, keepdim=True, unbiased=False) + 1e-3).sqrt()
    expected = expected.view(4, 6) * weights.get("weight", torch.ones(6)) + weights.get("bias", torch.zeros(6))
    torch.testing.assert_close(model(x), expected)


def test_a_layer_that_does_more_is_refused():
    class Activated(nn.BatchNorm2d):
        pass

    with pytest.raises(InputError, match=r"batchnorm=group_norm: Activated is more .* write batchnorm=as_is"):
        group_norms_instead(nn.Sequential(Activated(4)))
