"""Linear layers, on vectors or on sequences of them."""

import torch
from torch import Tensor, nn

from cl_fisher.fisher.rule.products import squared_products, sum_of_squares
from cl_fisher.fisher.rule.rule import Rule, stacked


class LinearRule(Rule):
    """y = x W^T + b, x of [N, K] or [N, positions..., K]."""

    def covers(self, module: nn.Module, inputs: Tensor) -> bool:
        """Vectors or sequences of them; `functional.linear` also takes one row as a vector, which is left out."""
        return inputs.dim() >= 2 and isinstance(module.weight, Tensor) and module.weight.dim() == 2

    def gradient(self, module: nn.Module, inputs: Tensor, gradient: Tensor) -> dict[str, Tensor]:
        """G^T X and the sum of G."""
        g, x = gradient.flatten(0, -2), inputs.flatten(0, -2)
        return {"weight": g.T @ x} | ({} if module.bias is None else {"bias": g.sum(0)})

    def per_example(self, module: nn.Module, inputs: Tensor, gradient: Tensor) -> dict[str, Tensor]:
        """G_n^T X_n and the sum of G_n over positions."""
        g, x = self.row_gradients(module, gradient), self.rows(module, inputs)
        return {"weight": torch.bmm(g.mT, x)} | ({} if module.bias is None else {"bias": g.sum(1)})

    def is_matrix(self, module: nn.Module) -> bool:  # noqa: ARG002
        """It is one."""
        return True

    def rows(self, module: nn.Module, inputs: Tensor) -> Tensor:  # noqa: ARG002
        """The inputs, positions flattened."""
        return inputs[:, None] if inputs.dim() == 2 else inputs.flatten(1, -2)

    def row_gradients(self, module: nn.Module, gradient: Tensor) -> Tensor:  # noqa: ARG002
        """The gradients, positions flattened."""
        return gradient[:, None] if gradient.dim() == 2 else gradient.flatten(1, -2)

    def merged(self, tensors: list[Tensor]) -> Tensor:
        """A sequence of the calls."""
        return stacked(tensors)

    def squares(self, module: nn.Module, inputs: Tensor, gradients: list[Tensor]) -> dict[str, Tensor]:
        """For vectors (sum_v G_v^2)^T X^2, one product for all columns; sequences sum positions before squaring."""
        if inputs.dim() == 2:
            squared = gradients[0].square()
            for g in gradients[1:]:
                squared.addcmul_(g, g)
            weight, bias = squared.T @ inputs.square(), squared.sum(0)
        else:
            columns = [g.flatten(1, -2) for g in gradients]
            weight = squared_products([g.mT for g in columns], inputs.flatten(1, -2))
            bias = sum_of_squares(g.sum(1) for g in columns)
        return {"weight": weight} | ({} if module.bias is None else {"bias": bias})
