"""What other code calls the diagonal Fisher, re-implemented in a few lines each from descriptions of it."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fisher_accuracy.networks import Part


def van_de_ven(model: nn.Module, part: Part, labels: str) -> Tensor:
    """Example by example at all labels, one drawn, the likeliest or the true one; divided by N - 1."""
    model.eval()
    total, generator = 0, torch.Generator().manual_seed(0)
    for log_p, y in single(model, part):
        p = log_p.detach().exp()
        if labels == "all":
            total = total + sum(p[c] * squares(log_p[c], model) for c in range(len(p)))
        else:
            drawn = {"sampled": int(p.multinomial(1, generator=generator)), "argmax": int(p.argmax()), "true": y}
            total = total + squares(log_p[drawn[labels]], model)
    return total / (len(part) - 1)


def avalanche(model: nn.Module, part: Part, size: int) -> Tensor:
    """Square of the gradient of a batch's mean loss, mean over batches."""
    model.eval()
    return batch_means(model, part, size)


def mammoth(model: nn.Module, part: Part, size: int = 32) -> Tensor:
    """Example by example at the true label, times its probability; over batches times batch size."""
    total = 0
    for log_p, y in single(model, part):
        total = total + log_p[y].detach().exp() * squares(log_p[y], model)
    return total / (len(part.batches(size)) * size)


def pycil(model: nn.Module, part: Part, size: int = 128) -> Tensor:
    """As `avalanche`, in training mode, and no entry above 1e-4."""
    model.train()
    return batch_means(model, part, size).clamp(max=1e-4)


def hsu(model: nn.Module, part: Part, size: int = 128) -> Tensor:
    """As `avalanche` at the likeliest label, and times the batch size."""
    model.eval()
    with torch.no_grad():
        likeliest = torch.cat([model(x).argmax(1) for x, _ in part.batches()])
    return batch_means(model, Part(part.inputs, likeliest), size) * size


def single(model: nn.Module, part: Part) -> Iterator[tuple[Tensor, int]]:
    for x, y in zip(part.inputs, part.targets, strict=True):
        yield model(x[None])[0].log_softmax(0), int(y)


def batch_means(model: nn.Module, part: Part, size: int) -> Tensor:
    batches = part.batches(size)
    return sum(squares(cross_entropy(model(x), y), model) for x, y in batches) / len(batches)


def squares(scalar: Tensor, model: nn.Module) -> Tensor:
    gradients = torch.autograd.grad(scalar, list(model.parameters()), retain_graph=True)
    return torch.cat([g.flatten() for g in gradients]).square_()
