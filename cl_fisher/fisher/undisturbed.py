"""Looking at a model without leaving a trace in it."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode with gradients on and autocast off; modes, buffers and random state are put back on leaving."""
    modes = {module: module.training for module in model.modules()}
    buffers = {buffer: buffer.clone() for buffer in model.buffers()}
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    forked = [device.index or 0] if device.type == "cuda" else []
    try:
        with (
            torch.random.fork_rng(devices=forked),
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autocast(device.type, enabled=False),
        ):
            model.eval()
            yield
    finally:
        for module, training in modes.items():
            module.training = training
        with torch.no_grad():
            for buffer, before in buffers.items():
                if not torch.equal(buffer, before):
                    buffer.copy_(before)


def precise(model: nn.Module) -> nn.Module:
    """A float32 copy of a model with parameters of 16 bits, whose squared gradients would underflow; else the model."""
    if all(p.dtype.itemsize >= 4 for p in model.parameters()):
        return model
    return copy.deepcopy(model).float()
