"""Networks and data whose outputs are finite and whose Fisher is not."""

import warnings

import pytest
import torch
from torch import nn

from cl_fisher.error import InputError
from cl_fisher.fisher import estimate_fisher
from cl_fisher.strategy.ewc import EWC
from tests.fisher.models import Model

STRUCTURES = ["diagonal", "block_diagonal", "kronecker", "ekfac", "mixed", "low_rank", "dense"]


def examples(n=12, factor=1.0):
    return factor * torch.randn(n, 6, generator=torch.Generator().manual_seed(0)), torch.zeros(n, dtype=torch.long)


def overflowing():
    network = nn.Linear(6, 4)
    with torch.no_grad():
        network.weight.mul_(1e-25)
    return network, [examples(factor=1e25)]


def undefined():
    """The root of 0 has no derivative."""
    network = Model(lambda m, x: m.c((m.a(x) * (m.a(x) > 0)).sqrt()), c=nn.Linear(5, 4), a=nn.Linear(6, 5))
    return network, [examples()]


def late():
    """An input that is too large to be squared, in the last batch."""
    inputs, targets = examples(100)
    inputs[90, 0] = 1e25
    network = Model(lambda m, x: m.a(x[:, 1:]) + m.c(x[:, :1]), a=nn.Linear(5, 4), c=nn.Linear(1, 4, bias=False))
    with torch.no_grad():
        network.c.weight.mul_(1e-25)
    return network, [(inputs[:50], targets[:50]), (inputs[50:], targets[50:])]


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize(
    ("make", "name"), [(overflowing, "weight"), (undefined, r"a\.(weight|bias)"), (late, r"c\.weight")]
)
def test_one_message_names_the_parameter(make, name, structure):
    torch.manual_seed(0)
    network, batches = make()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match=rf"{name} is not finite"):
            estimate_fisher(network, batches, structure=structure)


def test_nothing_is_consolidated():
    ewc = EWC(nn.Linear(6, 1), likelihood="gaussian", estimator="empirical")
    with pytest.raises(InputError, match=r"weight is not finite.*targets"):
        ewc.consolidate([(examples()[0], torch.full((12, 1), float("nan")))])
    assert ewc.penalty() == 0


def test_without_a_second_reading_it_is_said_all_the_same():
    network, batches = overflowing()
    with pytest.raises(InputError, match="is not finite"):
        estimate_fisher(network, iter(batches), structure="dense")


def test_implicit_looks_at_the_derivative():
    with pytest.raises(InputError, match="not finite"):
        estimate_fisher(*undefined(), structure="implicit")
    nothing = [(examples()[0], torch.full((12, 1), float("nan")))]
    with pytest.raises(InputError, match="not finite"):
        estimate_fisher(nn.Linear(6, 1), nothing, "gaussian", "empirical", "implicit")
