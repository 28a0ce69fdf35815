"""The type in which sums over many examples are taken."""

import torch
from torch import Tensor


def wide(tensor: Tensor) -> Tensor:
    """Float64, where the tensor is; Apple's GPUs have none, so there on the CPU."""
    return tensor.detach().to("cpu" if tensor.device.type == "mps" else tensor.device, torch.float64)
