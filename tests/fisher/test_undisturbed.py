"""What a model chooses of its own, against the precision that an estimate wants."""

import copy

import pytest
import torch
from torch import nn

from cl_fisher.error import InputError
from cl_fisher.fisher import estimate_fisher
from tests.fisher.models import Model, mlp

BATCHES = [(torch.randn(9, 6, generator=torch.Generator().manual_seed(0)), torch.arange(9) % 4)]


class Within(nn.Module):
    """Autocast as a context."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = mlp()

    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            return self.net(x)


class Decorated(Within):
    """Autocast as a decorator, and its result cast back."""

    @torch.autocast("cpu", torch.bfloat16)
    def both(self, x):
        return self.net(x)

    def forward(self, x):
        return self.both(x).float()


@pytest.mark.parametrize("structure", ["diagonal", "kronecker", "dense", "low_rank", "implicit"])
@pytest.mark.parametrize("network", [Within, Decorated])
def test_autocast_in_the_model_is_off(network, structure):
    model = network()
    found = estimate_fisher(model, BATCHES, structure=structure)
    expected = estimate_fisher(model.net, BATCHES, structure=structure)
    v = {name: torch.ones_like(p) for name, p in model.net.named_parameters()}
    ours = found.mv({f"net.{name}": d for name, d in v.items()})
    for name, product in expected.mv(v).items():
        torch.testing.assert_close(ours[f"net.{name}"], product, rtol=1e-5, atol=1e-7)
    assert model(BATCHES[0][0]).dtype == (torch.bfloat16 if network is Within else torch.float32)  # on again


def test_the_check_is_in_full_precision_too():
    assert estimate_fisher(Within(), BATCHES, check=True).info["check"]["check_cosine"] == pytest.approx(1, abs=1e-5)


def test_a_model_that_casts_to_16_bits_itself_is_told_what_is_wrong():
    model = Model(lambda m, x: m.net(x.bfloat16()), net=nn.Linear(6, 4)).bfloat16()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(InputError, match=r"estimated in 32 bits.*type of its weights"):
        estimate_fisher(model, BATCHES)
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
