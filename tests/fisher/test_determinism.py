"""Networks whose outputs are not a function of each example alone are told from those whose are."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from cl_fisher.error import InputError
from cl_fisher.fisher.batches import read
from cl_fisher.fisher.determinism import check_determined
from tests.fisher.models import MODELS, Model, make


def check(model, inputs):
    (batch,) = read([(inputs, torch.zeros(len(inputs), dtype=torch.long))], torch.zeros((), dtype=inputs.dtype))
    check_determined(model, batch, model(batch.copied_inputs()).detach())


@pytest.mark.parametrize("name", [name for name in MODELS if name != "compiled"])
def test_models_whose_outputs_belong_to_their_examples_pass(name):
    model, inputs, _ = make(name)
    check(model, inputs)


@pytest.mark.parametrize("n", [1, 2, 9])
@pytest.mark.parametrize(
    "draw", [lambda h: functional.dropout(h, 0.5), lambda h: h + 0.3 * torch.randn_like(h)], ids=["dropout", "noise"]
)
def test_a_model_that_draws_at_random_is_refused(draw, n):
    torch.manual_seed(0)
    model = Model(lambda m, x: m.out(draw(m.layer(x))), layer=nn.Linear(6, 8), out=nn.Linear(8, 4)).eval()
    with pytest.raises(InputError, match="draws at random or changes a buffer in evaluation mode"):
        check(model, torch.randn(n, 6))


@pytest.mark.parametrize(
    "layer",
    [
        nn.BatchNorm1d(6, track_running_stats=False),
        Model(lambda _, x: x - x.mean(0)),
        Model(lambda _, x: x.cumsum(0).flip(0)),
    ],
    ids=["batch norm", "mean of the batch", "sum of others"],
)
def test_a_model_that_mixes_examples_is_refused(layer):
    torch.manual_seed(0)
    model = nn.Sequential(layer, nn.Linear(6, 4)).eval()
    with pytest.raises(InputError, match="depend on the other examples"):
        check(model, torch.randn(9, 6))


def test_rounding_in_32_bits_passes():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 500), nn.ReLU(), nn.Linear(500, 500), nn.ReLU(), nn.Linear(500, 4))
    check(model, 100 * torch.randn(300, 6))


def test_outputs_that_are_zero_and_inputs_that_change_in_place():
    model = Model(lambda m, x: m.out(x.add_(1.0)), out=nn.Linear(6, 4))
    check(model, torch.randn(5, 6))
    nn.init.zeros_(model.out.weight)
    nn.init.zeros_(model.out.bias)
    check(model, torch.randn(5, 6))
