"""Shortcuts of torch are off within, and as they were afterwards."""

import warnings

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import scaled_dot_product_attention

from cl_fisher.fisher.plain import plain, under_vmap
from tests.fisher.models import make


def rows(model, inputs):
    """Gradients of each example by vmap."""
    values = {name: p.detach() for name, p in model.named_parameters()}

    def of_one(values, example):
        return functional_call(model, values, (example[None],)).sin().sum()

    return vmap(grad(of_one), in_dims=(None, 0))(values, inputs)


@pytest.mark.parametrize(
    "name", ["transformer", "transformer stack", "transformer reused", "decoder", "masked attention", "weight norm"]
)
def test_vmap_does_them_without_a_warning(name):
    model, inputs, _ = make(name)
    with warnings.catch_warnings(), plain(), under_vmap():
        found = rows(model, inputs)
    for n in range(len(inputs)):
        truth = torch.autograd.grad(model(inputs[n : n + 1]).sin().sum(), model.parameters())
        for mine, true in zip(found.values(), truth, strict=True):
            torch.testing.assert_close(mine[n], true, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("before", [True, False])
def test_the_fast_path_is_as_before_afterwards(before):
    torch.backends.mha.set_fastpath_enabled(before)
    try:
        with plain():
            assert not torch.backends.mha.get_fastpath_enabled()
        assert torch.backends.mha.get_fastpath_enabled() == before
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


def test_attention_kernels_are_as_before_afterwards():
    x = torch.randn(1, 1, 3, 4, requires_grad=True)
    before = scaled_dot_product_attention(x, x, x).grad_fn.name()
    with under_vmap():
        assert scaled_dot_product_attention(x, x, x).grad_fn.name() != before
    assert scaled_dot_product_attention(x, x, x).grad_fn.name() == before


@pytest.mark.skipif(not hasattr(torch.compiler, "set_stance"), reason="torch before 2.6")
def test_compiled_models_run_as_written():
    compilations = []

    def backend(graph, _):
        compilations.append(graph)
        return graph.forward

    model, seen = nn.Sequential(nn.Linear(6, 4)), []
    compiled = torch.compile(model, backend=backend)
    with plain():
        with model[0].register_forward_hook(lambda *_: seen.append(1)):
            compiled(torch.randn(2, 6))
        assert seen == [1]
        assert not compilations
