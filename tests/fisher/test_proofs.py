"""What must hold of a Fisher by theory, in networks of many layers; the other side knows no formula of the Fisher."""

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from cl_fisher.fisher import estimate_fisher


def relu_networks():
    torch.manual_seed(0)
    mlp = nn.Sequential(nn.Linear(6, 7), nn.ReLU(), nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 4))
    conv = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 4, 2, groups=1),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4),
    )  # fmt: skip
    conv(torch.randn(20, 2, 6, 6))  # statistics that are not 0 and 1
    return {"mlp": (mlp, (6,)), "conv": (conv, (2, 6, 6))}


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_layer_blocks_of_a_relu_network_are_those_of_the_hessian_for_any_labels(kind):
    """The network is piecewise linear in the weights of each layer, so the Hessian's other term is zero there."""
    model, shape = relu_networks()[kind]
    model = model.double().eval()
    inputs, targets = torch.randn(9, *shape, dtype=torch.float64), torch.randint(0, 4, (9,))
    fisher = estimate_fisher(model, [(inputs, targets)], structure="block_diagonal")
    layers = {name.rpartition(".")[0] for name, _ in model.named_parameters()}
    for layer in layers:
        own = {n: p.detach() for n, p in model.named_parameters() if n.rpartition(".")[0] == layer}
        first = torch.cat([p.flatten() for p in own.values()])

        def loss(flat, own=own):
            values, at = {}, 0
            for name, p in own.items():
                values[name], at = flat[at : at + p.numel()].view_as(p), at + p.numel()
            return functional.cross_entropy(functional_call(model, values, (inputs,)), targets)

        hessian = torch.autograd.functional.hessian(loss, first)
        (block,) = [b for b in fisher.blocks if set(b.shapes()) == set(own)]
        torch.testing.assert_close(block.to_dense(), hessian, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("structure", ["dense", "implicit"])
def test_what_does_not_change_the_predictions_has_no_fisher(structure):
    """A common shift of the logits; a unit's input scaled up and its output scaled down."""
    model = relu_networks()["mlp"][0].double()
    inputs, targets = torch.randn(9, 6, dtype=torch.float64), torch.randint(0, 4, (9,))
    fisher = estimate_fisher(model, [(inputs, targets)], structure=structure)
    zero = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    shift = zero | {"4.bias": torch.ones(4, dtype=torch.float64)}
    weights = {name: p.detach() for name, p in model.named_parameters()}
    scaling = {name: torch.zeros_like(p) for name, p in zero.items()}
    scaling["0.weight"][2], scaling["0.bias"][2] = weights["0.weight"][2], weights["0.bias"][2]
    scaling["2.weight"][:, 2] = -weights["2.weight"][:, 2]
    largest = fisher.largest_eigenvalue()
    for direction in (shift, scaling):
        length = sum(float(d.square().sum()) for d in direction.values())
        assert float(fisher.quadratic(direction)) < 1e-12 * largest * length
        assert all(float(v.abs().max()) < 1e-10 * largest for v in fisher.mv(direction).values())


@pytest.mark.parametrize("structure", ["diagonal", "block_diagonal", "dense"])
@pytest.mark.parametrize("estimator", ["exact", "signs", "monte_carlo", "empirical"])
def test_parts_of_the_data_add_up(estimator, structure):
    """N F = N1 F1 + N2 F2, the draws being those of the examples."""
    model = relu_networks()["mlp"][0].double()
    inputs, targets, index = torch.randn(9, 6, dtype=torch.float64), torch.randint(0, 4, (9,)), torch.arange(9)

    def estimated(which):
        batch = (inputs[which], targets[which], index[which])
        return estimate_fisher(model, [batch], estimator=estimator, structure=structure)

    parts = 4 * estimated(slice(0, 4)) + 5 * estimated(slice(4, 9))
    torch.testing.assert_close(parts.to_dense(), (9 * estimated(slice(0, 9))).to_dense(), rtol=1e-10, atol=1e-13)
