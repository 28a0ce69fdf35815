"""Embeddings."""

from typing import Any

import torch
from torch import Tensor, nn

from cl_fisher.fisher.rule.rule import Rule


class EmbeddingRule(Rule):
    """y = W[token], tokens of [N] or [N, positions...]: an example's gradient has a row for each of its tokens."""

    def covers(self, module: Any, inputs: Tensor) -> bool:
        """Not where the gradient is more than a sum over tokens, nor where the weight is changed by looking it up."""
        if type(module) is not nn.Embedding or inputs.dim() == 0:
            return False
        return module.max_norm is None and not module.scale_grad_by_freq and not module.sparse

    def gradient(self, module: Any, inputs: Tensor, gradient: Tensor) -> dict[str, Tensor]:
        """Summed over equal tokens."""
        total = torch.zeros_like(module.weight.detach())
        return {"weight": _unpadded(module, total.index_add_(0, inputs.flatten(), gradient.flatten(0, -2)), 0)}

    def per_example(self, module: Any, inputs: Tensor, gradient: Tensor) -> dict[str, Tensor]:
        """Summed over equal tokens of an example, zero for all others."""
        size, width = module.weight.shape
        keys = _keys(inputs, size)
        total = gradient.new_zeros(len(inputs) * size, width).index_add_(0, keys, gradient.flatten(0, -2))
        return {"weight": _unpadded(module, total.view(len(inputs), size, width), 1)}

    def squares(self, module: Any, inputs: Tensor, gradients: list[Tensor]) -> dict[str, Tensor]:
        """Summed over equal tokens of an example, squared, added to the token's row."""
        size, width = module.weight.shape
        found, position = _keys(inputs, size).unique(return_inverse=True)
        total = torch.zeros_like(module.weight.detach())
        for gradient in gradients:
            sums = gradient.new_zeros(len(found), width).index_add_(0, position, gradient.flatten(0, -2))
            total.index_add_(0, found % size, sums.square_())
        return {"weight": _unpadded(module, total, 0)}

    def merged(self, tensors: list[Tensor]) -> Tensor:
        """Positions of all calls behind each other."""
        if not tensors[0].is_floating_point():
            return torch.cat([t.reshape(len(t), -1) for t in tensors], 1)
        return torch.cat([t.reshape(len(t), -1, t.shape[-1]) for t in tensors], 1)


def _keys(inputs: Tensor, size: int) -> Tensor:
    """One number for each pair of example and token."""
    tokens = inputs.flatten(1).long() if inputs.dim() > 1 else inputs[:, None].long()
    return (torch.arange(len(tokens), device=tokens.device)[:, None] * size + tokens).flatten()


def _unpadded(module: Any, rows: Tensor, dim: int) -> Tensor:
    """Without the row of the padding token, which has no gradient."""
    return (
        rows
        if module.padding_idx is None
        else rows.index_fill_(dim, torch.tensor(module.padding_idx, device=rows.device), 0.0)
    )
