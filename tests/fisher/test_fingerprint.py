"""The fingerprint of a model: the same for the same values, another for others."""

import copy
import hashlib
import json

import pytest
import torch
from torch import nn

from cl_fisher.error import InputError
from cl_fisher.fisher.fingerprint import fingerprint


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def test_copies_agree_and_each_change_is_seen():
    model = net()
    print_ = fingerprint(model)
    assert len(print_) == 16
    assert print_ == fingerprint(copy.deepcopy(model)) == fingerprint(net().eval().requires_grad_(False))
    seen = {print_}
    for tensor in model.state_dict().values():
        before = tensor.clone()
        tensor.view(-1)[-1] += 1
        seen.add(fingerprint(model))
        tensor.copy_(before)
    assert len(seen) == 1 + len(model.state_dict())
    assert fingerprint(model) == print_
    assert fingerprint(model.double()) not in seen


def test_it_is_the_hash_that_it_says():
    model = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, -2.0]]))
    header = json.dumps(["parameter", "weight", "torch.float32", [1, 2]]).encode()
    expected = hashlib.sha256(header + bytes.fromhex("0000803f000000c0")).hexdigest()[:16]
    assert fingerprint(model) == expected


def test_names_shapes_and_order_count():
    a, b = nn.Linear(2, 2, bias=False), nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        b.weight.copy_(a.weight.view(1, 4))
    twins = [nn.ParameterDict({"a": a.weight}), nn.ParameterDict({"b": a.weight}), nn.ParameterDict({"a": b.weight})]
    assert len({fingerprint(twin) for twin in twins}) == 3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.bool, torch.complex64, torch.int64])
def test_any_type_and_layout(dtype):
    model = nn.Module()
    model.register_buffer("flags", torch.randn(3, 4).to(dtype).T)
    model.register_buffer("one", torch.ones((), dtype=dtype), persistent=False)
    model.register_buffer("none", torch.ones(0, dtype=dtype))
    same = copy.deepcopy(model)
    same.flags = same.flags.clone(memory_format=torch.contiguous_format)
    assert fingerprint(model) == fingerprint(same)
    same.one.zero_()
    assert fingerprint(model) != fingerprint(same)


@pytest.mark.parametrize("make", [lambda: nn.Linear(2, 2, device="meta"), lambda: nn.LazyLinear(2)])
def test_no_values_no_fingerprint(make):
    with pytest.raises(InputError, match="weight has no values"):
        fingerprint(make())
