"""The Fisher from its definition, one example and one label at a time: slow and obvious, to check the rest against."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def brute_force(
    model: nn.Module, inputs: Tensor, targets: Tensor | None = None, classes: Sequence[int] | None = None
) -> Tensor:
    """Dense F = mean_n sum_y p(y|x_n) s_y s_y^T, [P, P] in float64, over the trainable parameters in their order.

    Args:
        model: outputs logits [N, C]; used in the mode that it is in.
        inputs: [N, ...].
        targets: labels [N], positions within `classes`; if given, the result is the empirical Fisher at them.
        classes: the active outputs; all if None.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    size = sum(p.numel() for p in parameters)
    total = torch.zeros(size, size, dtype=torch.float64)
    for n in range(len(inputs)):
        outputs = model(inputs[n : n + 1])[0]
        log_p = (outputs if classes is None else outputs[list(classes)]).log_softmax(-1)
        for y in range(len(log_p)) if targets is None else [int(targets[n])]:
            score = torch.autograd.grad(log_p[y], parameters, retain_graph=True, materialize_grads=True)
            s = torch.cat([g.flatten() for g in score]).double()
            weight = float(log_p[y].detach().exp()) if targets is None else 1.0
            total += weight * torch.outer(s, s) / len(inputs)
    return total
