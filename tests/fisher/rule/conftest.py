"""What every rule must satisfy."""

import pytest
import torch


def by_autograd(module, inputs, gradients):
    """Per-example gradients {name: [V, N, *shape]}, one example and column at a time."""
    names, own = zip(*module.named_parameters(), strict=True)
    found = {
        name: torch.zeros(len(gradients), len(inputs), *p.shape, dtype=p.dtype) for name, p in module.named_parameters()
    }
    for n in range(len(inputs)):
        outputs = module(inputs[n : n + 1])
        for v, gradient in enumerate(gradients):
            parts = torch.autograd.grad(outputs, own, gradient[n : n + 1], retain_graph=True)
            for name, g in zip(names, parts, strict=True):
                found[name][v, n] = g
    return found


def agree(found, wanted):
    assert set(found) == set(wanted)
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-10, atol=1e-10)


@pytest.fixture
def check_rule():
    def check(rule, module, inputs, n_columns=3):
        """All of a rule's statements against autograd, in float64."""
        module.double()
        inputs = inputs.double() if inputs.is_floating_point() else inputs
        assert rule.covers(module, inputs)
        output = module(inputs)
        gradients = [torch.randn_like(output) for _ in range(n_columns)]
        before = [inputs.clone(), *[g.clone() for g in gradients]]
        truth = by_autograd(module, inputs, gradients)
        agree(rule.per_example(module, inputs, gradients[0]), {name: g[0] for name, g in truth.items()})
        agree(rule.gradient(module, inputs, gradients[0]), {name: g[0].sum(0) for name, g in truth.items()})
        squares = {name: g.square().sum((0, 1)) for name, g in truth.items()}
        agree(rule.squares(module, inputs, gradients), squares)
        agree(rule.squares(module, inputs, gradients[:1]), {n: g[0].square().sum(0) for n, g in truth.items()})
        if rule.is_matrix(module):
            rows, row_gradients = rule.rows(module, inputs), rule.row_gradients(module, gradients[0])
            assert rows.dim() == row_gradients.dim() == 3
            weight = torch.einsum("nso,nsk->nok", row_gradients, rows).unflatten(2, module.weight.shape[1:])
            torch.testing.assert_close(weight, truth["weight"][0], rtol=1e-10, atol=1e-10)
        for tensor, same in zip([inputs, *gradients], before, strict=True):
            torch.testing.assert_close(tensor, same, rtol=0, atol=0)

    return check
