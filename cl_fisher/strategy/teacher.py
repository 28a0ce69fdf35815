"""The network as it once was, for strategies that go on asking it."""

import copy
from collections.abc import Mapping

from torch import Tensor, nn


def teacher(model: nn.Module, state: Mapping[str, Tensor] | None = None) -> nn.Module:
    """A frozen copy in evaluation mode; with `state`, the weights and buffers of one that was made before.

    The network may have grown since then, and the copy has the shapes of `state`.
    """
    made = copy.deepcopy(model).eval().requires_grad_(False)
    if state is not None:
        for name, t in (*made.named_parameters(), *made.named_buffers()):
            if name in state and t.shape != state[name].shape:  # load_state_dict insists on shapes
                t.data = t.new_empty(state[name].shape)
        made.load_state_dict(state)
    return made
