"""Convolutions."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.conv import _ConvNd

from cl_fisher.fisher.rule.correlation import Correlation
from cl_fisher.fisher.rule.products import CACHE_BYTES, squared_products
from cl_fisher.fisher.rule.rule import CHUNK_BYTES, Rule

_DIMENSIONS: dict[type[nn.Module], int] = {nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}
_FEW_POSITIONS = 64  # up to here, if the weight fills the cache, matrix products beat convolutions of one example


class ConvRule(Rule):
    """y = x * W + b, x of [N, channels, positions...]."""

    def covers(self, module: nn.Module, inputs: Tensor) -> bool:
        """Batches; a single example without a batch dimension has one dimension less."""
        return inputs.dim() - 2 == _DIMENSIONS.get(type(module))

    def gradient(self, module: nn.Module, inputs: Tensor, gradient: Tensor) -> dict[str, Tensor]:
        """As the backward pass does it."""
        weight = _correlation(module).summed(_padded(module, inputs), gradient)
        return {"weight": weight} | ({} if module.bias is None else {"bias": gradient.flatten(2).sum((0, 2))})

    def per_example(self, module: nn.Module, inputs: Tensor, gradient: Tensor) -> dict[str, Tensor]:
        """One convolution for some examples at a time, their groups next to each other (Rochette et al. 2019)."""
        weight = _correlation(module).each(_padded(module, inputs), gradient)
        return {"weight": weight} | ({} if module.bias is None else {"bias": gradient.flatten(2).sum(2)})

    def squares(self, module: nn.Module, inputs: Tensor, gradients: list[Tensor]) -> dict[str, Tensor]:
        """By convolutions of all columns, or by products of unfolded patches where these are few and the weight large."""
        n_positions = gradients[0][0, 0].numel()
        bytes_ = module.weight.numel() * module.weight.element_size()
        if self.is_matrix(module) and n_positions <= _FEW_POSITIONS and bytes_ > CACHE_BYTES:
            weight = self._squares_by_patches(module, inputs, gradients)
        else:
            weight = _correlation(module).squares([_padded(module, inputs)], gradients)
        if module.bias is None:
            return {"weight": weight}
        return {"weight": weight, "bias": sum_of_squares([g.flatten(2).sum(2) for g in gradients])}

    def _squares_by_patches(self, module: nn.Module, inputs: Tensor, gradients: list[Tensor]) -> Tensor:
        total = module.weight.new_zeros(module.weight.flatten(1).shape)
        patches = module.weight[0].numel() * gradients[0][0, 0].numel() * inputs.element_size()
        size = max(1, CHUNK_BYTES // patches)
        for start in range(0, len(inputs), size):
            part = slice(start, start + size)
            total += squared_products([g[part].flatten(2) for g in gradients], self.rows(module, inputs[part]))
        return total.view_as(module.weight)

    def is_matrix(self, module: nn.Module) -> bool:
        """Unless its channels are in groups."""
        return module.groups == 1

    def rows(self, module: nn.Module, inputs: Tensor) -> Tensor:
        """The patches that each output position sees, [N, S, channels * kernel]."""
        x = _padded(module, inputs, explicit=True)
        for dim, (kernel, stride, dilation) in enumerate(
            zip(module.kernel_size, module.stride, module.dilation, strict=True), start=2
        ):
            x = x.unfold(dim, (kernel - 1) * dilation + 1, stride)[..., ::dilation]
        n = len(module.kernel_size)
        order = (0, 1, *range(n + 2, 2 * n + 2), *range(2, n + 2))  # positions last: the faster copy
        return x.permute(order).reshape(len(x), module.weight[0].numel(), -1).mT

    def row_gradients(self, module: nn.Module, gradient: Tensor) -> Tensor:  # noqa: ARG002
        """The gradients, positions flattened."""
        return gradient.flatten(2).mT


def _padding(module: nn.Module) -> list[tuple[int, int]]:
    """Before and after, for each dimension."""
    if module.padding == "valid":
        return [(0, 0)] * len(module.kernel_size)
    if module.padding == "same":
        totals = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    return [(p, p) for p in module.padding]
