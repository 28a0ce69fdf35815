"""A penalty step that cannot diverge: after the optimizer's step on the task loss, the quadratic is solved exactly.

From weights w that the optimizer has reached, go to argmin_v (v - w)^T M (v - w) / (2 s) + strength/2 q(v), with the
metric M and the step size s of the optimizer: the identity for gradient descent, Adam's own preconditioner for Adam. A
stationary point of loss + penalty is then a fixed point of both steps together, whatever the strength: as long as
nothing else moves the weights after it, such as another solution of this kind, or rows of the output layer that are put
back (of a diagonal these may be, for it solves for each weight alone).
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

from cl_fisher.error import InputError
from cl_fisher.fisher import FisherMatrix

Metric = dict[int, float | Tensor]
"""M / s by the id of a parameter: a number, or one for each weight."""
Scale = Mapping[str, float | Tensor]
"""M / (s strength) by the name of a parameter."""


def check_optimizer(optimizer: Optimizer) -> None:
    """Raise `InputError` for an optimizer whose metric is not known."""
    if not isinstance(optimizer, SGD | Adam | AdamW):
        raise InputError(
            f"strategy.step=proximal needs the metric of the optimizer, which is known for SGD, Adam and AdamW and not "
            f"for {type(optimizer).__name__}: use one of these, or strategy.step=gradient"
        )


@torch.no_grad()
def metric(optimizer: Optimizer) -> Metric:
    """Of the step that the optimizer has just taken; parameters with a learning rate of 0 do not appear.

    With momentum m (dampening d) a constant gradient moves a weight by lr (1 - d) / (1 - m) a step, which is s. Adam
    divides by the root of its running mean of squared gradients, bias corrected, plus eps, which is M.
    """
    check_optimizer(optimizer)
    found: Metric = {}
    for group in optimizer.param_groups:
        lr = float(group["lr"])
        for p in group["params"]:
            if lr == 0 or not p.requires_grad:
                continue
            if isinstance(optimizer, SGD):
                momentum = group["momentum"]
                found[id(p)] = (1 - momentum) / ((1 - group["dampening"]) * lr if momentum else lr)
                continue
            state = optimizer.state.get(p)
            if state:  # else it had no gradient so far, and has not moved
                second = state["max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"]
                correction = 1 - group["betas"][1] ** float(state["step"])
                found[id(p)] = ((second / correction).sqrt_() + group["eps"]) / lr
    return found


_STEPS, _ENOUGH = 50, 1e-6


def pulled(
    precision: FisherMatrix, scale: Scale, right: Mapping[str, Tensor], held: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Solution d of (precision + scale) d = right, over the parameters of `scale`, the others being held at their d."""
    if precision.kind in ("diagonal", "identity"):
        diagonal = precision.diagonal()
        return {name: r / (diagonal[name].to(r) + scale[name]) for name, r in right.items()}
    alike = {s for s in scale.values() if not isinstance(s, Tensor)}
    if len(alike) == 1 and not held and not any(isinstance(s, Tensor) for s in scale.values()):
        return precision.solve(dict(right), alike.pop())
    return _conjugate_gradients(precision, scale, right, held)


def _conjugate_gradients(
    precision: FisherMatrix, scale: Scale, right: Mapping[str, Tensor], held: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Preconditioned by the diagonal (Hestenes & Stiefel 1952), from what the diagonal alone would give.

    In the norm of the matrix the error only falls, so that no number of steps makes the weights diverge. Under Adam and
    a stiff penalty it is stopped before it is small everywhere: weights of tiny gradients have hardly any metric.
    """
    still = {name: torch.zeros_like(d) for name, d in held.items()}

    def product(d: Mapping[str, Tensor]) -> dict[str, Tensor]:
        along = precision.mv(dict(d) | still)
        return {name: along[name] + scale[name] * d[name] for name in d}

    if held:
        push = precision.mv({name: torch.zeros_like(r) for name, r in right.items()} | dict(held))
        right = {name: r - push[name] for name, r in right.items()}
    diagonal = {name: v.clamp_min(0) + scale[name] for name, v in precision.diagonal().items() if name in right}
    x = {name: r / diagonal[name] for name, r in right.items()}
    residual = {name: r - a for (name, r), a in zip(right.items(), product(x).values(), strict=True)}
    size = sum(float((r / diagonal[name] * r).double().sum()) for name, r in right.items())
    z = {name: r / diagonal[name] for name, r in residual.items()}
    direction, rz = z, _dot(residual, z)
    for _ in range(_STEPS):
        if rz <= _ENOUGH**2 * size:  # in units of the diagonal, for Adam's metric spans many orders of magnitude
            break
        along = product(direction)
        curvature = _dot(direction, along)
        if not curvature > 0:
            break
        length = rz / curvature
        x = {name: v + length * direction[name] for name, v in x.items()}
        residual = {name: r - length * along[name] for name, r in residual.items()}
        z = {name: r / diagonal[name] for name, r in residual.items()}
        rz, before = _dot(residual, z), rz
        direction = {name: v + rz / before * direction[name] for name, v in z.items()}
    return x


def _dot(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    return sum(float(v.flatten().double().dot(b[name].flatten().double())) for name, v in a.items())
