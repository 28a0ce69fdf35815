"""What every strategy has, one of the user's own too."""

import pytest
from torch import nn

from cl_fisher.error import InputError
from cl_fisher.strategy.strategy import Strategy


@pytest.mark.parametrize(
    ("strength", "message"),
    [("foo", "strength=foo: a number is wanted, at least 0"), (-1, "strength=-1 is out of range: .* at least 0")],
)
def test_a_strength_that_cannot_be(strength, message):
    with pytest.raises(InputError, match=message):
        Strategy(nn.Linear(2, 2), strength)
