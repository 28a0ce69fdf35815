"""Computing in the type of the weights, whatever the caller or the model itself has chosen."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_ONE_AT_A_TIME = threading.RLock()


@contextmanager
def full_precision() -> Iterator[None]:
    """Autocast off in this thread, also where a model turns it on in its forward.

    Squared gradients of 16 bits underflow, and a rule compares a layer's input with the gradient at its output, which
    are of two types where the layer was autocast.
    """
    original, ours = torch.autocast.__enter__, threading.get_ident()

    def enter(autocast: Any) -> Any:
        wanted = autocast._enabled
        autocast._enabled = wanted and threading.get_ident() != ours
        try:
            return original(autocast)
        finally:
            autocast._enabled = wanted

    with _ONE_AT_A_TIME:
        torch.autocast.__enter__ = enter  # type: ignore[method-assign]
        try:
            yield
        finally:
            torch.autocast.__enter__ = original  # type: ignore[method-assign]
