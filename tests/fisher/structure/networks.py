"""Small networks in float64, and what their layers' blocks of the Fisher are by definition."""

import itertools

import torch
from torch import nn
from torch.func import functional_call, jacrev

from cl_fisher.fisher.estimator.estimator import Estimator


class Identity(Estimator):
    """Each output by itself: the Fisher of a Gaussian with unit variance."""

    def columns(self, likelihood, outputs, targets, draws):  # noqa: ARG002
        n, c = outputs.shape
        return torch.eye(c, dtype=outputs.dtype)[:, None].expand(c, n, c)


class Softmax(Estimator):
    """A square root of the softmax Hessian, by Cholesky of its definition."""

    def columns(self, likelihood, outputs, targets, draws):  # noqa: ARG002
        p = outputs.softmax(-1)
        hessian = torch.diag_embed(p) - p[:, :, None] * p[:, None]
        values, vectors = torch.linalg.eigh(hessian)
        return (vectors * values.clamp(min=0).sqrt()[:, None]).permute(2, 0, 1)


class OverPositions(nn.Module):
    """Layers on each position of a sequence, and a head on their mean, or on all of them."""

    def __init__(self, *layers, mean=True):
        super().__init__()
        self.body, self.mean = nn.Sequential(*layers), mean

    def forward(self, x):
        y = self.body(x)
        return y.mean(1) if self.mean else y.flatten(1)


def mlp(*sizes, bias=True, seed=0):
    torch.manual_seed(seed)
    layers = [layer for k, o in itertools.pairwise(sizes) for layer in (nn.Linear(k, o, bias), nn.Tanh())]
    return nn.Sequential(*layers[:-1]).double()


def data(*shape, classes=3, seed=1):
    torch.manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64), torch.randint(classes, shape[:1])


def in_batches(x, y, size):
    return list(zip(x.split(size), y.split(size), strict=True))


def by_definition(model, x, estimator):
    """Mean over examples of J^T S S^T J, [P, P] over the trainable parameters, one example at a time."""
    wanted = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    size = sum(p.numel() for p in wanted.values())
    total = torch.zeros(size, size, dtype=torch.float64)
    for example in x:
        jacobian = jacrev(lambda values, e=example: functional_call(model, values, (e[None],))[0])(wanted)
        j = torch.cat([jacobian[name].reshape(-1, wanted[name].numel()) for name in wanted], 1)
        columns = estimator.columns(None, model(example[None]).detach(), None, None)[:, 0]
        total += (columns @ j).T @ (columns @ j) / len(x)
    return total


def block_of(dense, model, names):
    """The part of a dense matrix over the trainable parameters that is over these."""
    keep = [torch.full((p.numel(),), name in names) for name, p in model.named_parameters() if p.requires_grad]
    where = torch.cat(keep)
    return dense[where][:, where]
