"""Looking at a model without leaving a trace in it."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from cl_fisher.error import InputError
from cl_fisher.fisher.full_precision import full_precision


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode with gradients on and autocast off, the model's own too.

    Modes, buffers and random state are put back on leaving.
    """
    modes = {module: module.training for module in model.modules()}
    buffers = {buffer: buffer.clone() for buffer in model.buffers()}
    named = {module: dict(module._buffers) for module in model.modules()}
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    forked = [device.index or 0] if device.type == "cuda" else []
    try:
        with (
            torch.random.fork_rng(devices=forked),
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autocast(device.type, enabled=False),
            full_precision(),
        ):
            model.eval()
            yield
    finally:
        for module, training in modes.items():
            module.training = training
        for module, own in named.items():
            if any(module._buffers.get(name) is not buffer for name, buffer in own.items()):
                module._buffers.update(own)
        with torch.no_grad():
            for buffer, before in buffers.items():
                if not torch.equal(buffer, before):
                    buffer.copy_(before)


def precise(model: nn.Module) -> nn.Module:
    """A float32 copy of a model with parameters of 16 bits, whose squared gradients would underflow; else the model."""
    if all(p.dtype.itemsize >= 4 for p in model.parameters()):
        return model
    return copy.deepcopy(model).float()


@contextmanager
def explained(copied: bool) -> Iterator[None]:
    """Say what is behind an error that a model in 16 bits may have because `precise` copied it."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        if not copied or "type" not in str(error):
            raise
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"a model of 16 bits is estimated in 32 bits, in which this one fails ({reason}): let it cast its inputs "
            "to the type of its weights"
        ) from error
