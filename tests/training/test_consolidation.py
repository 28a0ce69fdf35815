"""What is tried before training is what will be done after it."""

import pytest
import torch
from torch import nn

from cl_fisher.error import InputError
from cl_fisher.training.consolidation import stirred


def test_a_layer_behind_an_output_layer_at_zero_is_tried_too(make_stream):
    """As in a vision transformer: layer norm has no Kronecker form, but gets no gradient at first."""
    stream = make_stream(options={"structure": "kronecker"})
    stream.model.insert(2, nn.LayerNorm(16))
    nn.init.zeros_(stream.model[-1].weight)
    with pytest.raises(InputError, match=r"2.weight has no Kronecker form"):
        stream.check()
    assert not stream.model[-1].weight.any()


def test_only_zeros_are_stirred_and_they_come_back():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2), nn.LazyLinear(4))
    nn.init.zeros_(model[1].weight)
    before = [p.clone() for layer in model[:2] for p in layer.parameters()]
    with stirred(model, seed=0):
        changed = [not torch.equal(p, b) for p, b in zip(model[:2].parameters(), before, strict=True)]
    assert changed == [False, False, True, False]
    assert all(torch.equal(p, b) for p, b in zip(model[:2].parameters(), before, strict=True))
