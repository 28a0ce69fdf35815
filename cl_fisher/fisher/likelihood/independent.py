"""Outputs whose Fisher information is diagonal, one number per output: a column for each output of an example.

Told by their root r = sqrt(Fisher information), of the outputs' shape [N, *positions, C]; V is the number of entries of
one example, and column v is r_v at the v-th of them and zero elsewhere.
"""

import torch
from torch import Tensor


def columns(root: Tensor, which: slice = slice(None)) -> Tensor:
    """Some columns, [v, *root.shape]."""
    flat = root.flatten(1)
    wanted = torch.arange(flat.shape[1], device=root.device)[which]
    made = flat.new_zeros(len(wanted), *flat.shape)
    made[torch.arange(len(wanted), device=root.device), :, wanted] = flat[:, wanted].T
    return made.reshape(len(wanted), *root.shape)


def combine(root: Tensor, weights: Tensor) -> Tensor:
    """sum_v w_kvn S_vn, [K, *root.shape] from weights [K, V, N]."""
    return weights.transpose(1, 2).reshape(len(weights), *root.shape) * root


def norms(root: Tensor) -> Tensor:
    """Norm of every column, [V, N]."""
    return root.flatten(1).T
