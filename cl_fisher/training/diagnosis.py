"""Why a run has diverged, in one sentence."""

import torch
from torch import optim

from cl_fisher.training.module import ContinualModule


def divergence(module: ContinualModule) -> str:
    """The likely cause of a loss or weight that is not finite.

    Gradient descent on a quadratic of curvature strength * max(sum F) is stable for lr * curvature < 2, with
    momentum m for lr * curvature < 2 (1 + m). Adam has no such bound: it divides by the gradient's size.
    """
    strategy, optimizer = module.continual, module.optimizer
    if any(p.dtype == torch.float16 for p in module.parameters()):
        return "likely cause: weights of 16 bits (trainer.precision), whose largest number is 65504"
    if not isinstance(optimizer, optim.SGD):
        return "likely cause: a learning rate that is too high, or inputs that are not finite"
    group = optimizer.param_groups[0]
    lr, bound = float(group["lr"]), 2 * (1 + float(group["momentum"]))
    curvature = strategy.curvature_bound()
    product = lr * strategy.strength * curvature
    if product < bound:
        return f"likely cause: the learning rate {lr:g} is too high for this network"
    return (
        f"likely cause: the penalty is too stiff for this learning rate: lr * strength * max(sum of F) = "
        f"{lr:g} * {strategy.strength:g} * {curvature:.4g} = {product:.4g} must be below {bound:g}"
    )
