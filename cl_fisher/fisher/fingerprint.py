"""A short name for the exact values of a network."""

import hashlib
import json

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from cl_fisher.error import InputError


def fingerprint(model: nn.Module) -> str:
    """The first 16 hexadecimal digits of a SHA-256 over names, types, shapes and bytes of parameters and buffers.

    In the model's order, parameters first; the same on every device. One bit of one weight changes it, and so does -0.0
    for 0.0. Modes, frozen or not, and gradients have no part in it.

    Raises:
        InputError: a parameter without values (lazy, or on the meta device).
    """
    digest = hashlib.sha256()
    for kind, named in (("parameter", model.named_parameters()), ("buffer", model.named_buffers())):
        for name, tensor in named:
            if is_lazy(tensor) or tensor.is_meta:
                raise InputError(f"{name} has no values yet, so the model has no fingerprint")
            digest.update(json.dumps([kind, name, str(tensor.dtype), list(tensor.shape)]).encode())
            digest.update(_bytes(tensor))
    return digest.hexdigest()[:16]


def _bytes(tensor: Tensor) -> memoryview:
    plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    return plain.flatten().view(torch.uint8).numpy().data
