"""The diagonal from its definition in float64, by a plain loop, and the distance of an estimate from it."""

import copy
import math

import torch
from torch import Tensor, nn

from fisher_cost.methods import Method

WRONG = 1e-3
DRAWN = ("labels", "signs", "stratified")


class Reference:
    """mean_n sum_y p(y|x_n) s_y^2 and mean_n s_(y_n)^2, flat, over the first examples."""

    def __init__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> None:
        self.model, self.inputs, self.targets = model, inputs, targets
        precise = copy.deepcopy(model).double()
        parameters = list(precise.parameters())
        self.exact = [torch.zeros_like(p) for p in parameters]
        self.empirical = [torch.zeros_like(p) for p in parameters]
        for x, y in zip(inputs.double() if inputs.is_floating_point() else inputs, targets, strict=True):
            log_p = precise(x[None])[0].log_softmax(0)
            for c in range(len(log_p)):
                score = torch.autograd.grad(log_p[c], parameters, retain_graph=True)
                weight = log_p[c].detach().exp() / len(targets)
                for i, s in enumerate(score):
                    self.exact[i].addcmul_(s, s * weight)
                    if c == y:
                        self.empirical[i].addcmul_(s, s / len(targets))

    def error(self, method: Method) -> float | None:
        """Relative L2 error of the method's diagonal; None if it has none."""
        estimate = method.run(self.model, self.inputs, self.targets, min(64, len(self.targets)))
        if estimate is None:
            return None
        truth = torch.cat([t.flatten() for t in (self.empirical if method.what == "empirical" else self.exact)])
        if estimate.shape != truth.shape:
            return math.inf
        return float((estimate.detach().double() - truth).norm() / truth.norm())


def verdict(method: Method, error: float | None) -> str:
    """A remark on an estimate that is not what its name says; what is drawn may be far from the truth."""
    if error is None or (math.isfinite(error) and (method.what in DRAWN or error <= WRONG)):
        return ""
    return "wrong: not finite" if math.isnan(error) else f"wrong: error {error:.2g}"
