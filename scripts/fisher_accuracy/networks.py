"""The networks, and the examples that they were trained on."""

import copy
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from cl_fisher.dataset.digits import digits
from cl_fisher.dataset.examples import Examples
from cl_fisher.dataset.vision import vision
from cl_fisher.fisher import estimate_fisher
from cl_fisher.model.mlp import MLP

BATCH = 500  # of the estimates
EPOCHS = (1, 2, 4)


@dataclass(frozen=True)
class Part:
    """Inputs in [0, 1] and labels."""

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, which: Tensor) -> "Part":
        return Part(self.inputs[which], self.targets[which])

    def some(self, n: int, seed: int = 0) -> "Part":
        """n of them at random, without replacement."""
        return self[torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))[:n]]

    def batches(self, size: int = BATCH) -> list[tuple[Tensor, Tensor]]:
        return list(zip(self.inputs.split(size), self.targets.split(size), strict=True))


@cache
def data(quick: bool) -> tuple[Part, Part]:
    """Training and test examples: MNIST, or the digits that come with scikit-learn."""
    source = digits() if quick else vision("MNIST", os.environ.get("CL_FISHER_DATA", "~/.cache/cl_fisher"))

    def part(examples: Examples) -> Part:
        return Part(examples.inputs(torch.arange(len(examples))), examples.targets)

    return part(source.train), part(source.test)


@cache
def ten_classes(quick: bool) -> dict[int, MLP]:
    """After each number of epochs, of one run."""
    train, _ = data(quick)
    per_epoch = -(-len(train) // 128)
    steps, found = training(train, 10, 0, quick), {}
    for step in range(1, max(EPOCHS) * per_epoch + 1):
        model = next(steps)
        if step % per_epoch == 0 and step // per_epoch in EPOCHS:
            found[step // per_epoch] = copy.deepcopy(model)
    return found


@cache
def zero_or_one(seed: int, quick: bool) -> tuple[MLP, Part]:
    """Task "0 vs 1" of Split MNIST: a network of two outputs after 2,000 iterations, and all that it was trained on."""
    train, _ = data(quick)
    pair = train[(train.targets < 2).nonzero().flatten()]
    steps = training(pair, 2, seed, quick)
    for _ in range(100 if quick else 2000):
        model = next(steps)
    return model, pair


def training(train: Part, n_outputs: int, seed: int, quick: bool) -> Iterator[MLP]:
    """The network after each step: Adam 1e-3, batches of 128, examples in a new order each epoch."""
    torch.manual_seed(seed)
    model = MLP(train.inputs.shape[1:], n_outputs, (32, 32) if quick else (400, 400))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    while True:
        for which in torch.randperm(len(train)).split(128):
            optimizer.zero_grad()
            cross_entropy(model(train.inputs[which]), train.targets[which]).backward()
            optimizer.step()
            yield model


@torch.no_grad()
def accuracy(model: nn.Module, part: Part) -> float:
    right = sum(int((model(x).argmax(1) == y).sum()) for x, y in part.batches())
    return right / len(part)


def diagonal(model: nn.Module, part: Part, estimator: object = "exact", **options: object) -> Tensor:
    """cl_fisher's, flat, float64."""
    fisher = estimate_fisher(model, part.batches(), estimator=estimator, **options)
    return torch.cat([f.flatten() for f in fisher.diagonal().values()]).double()


def distance(estimate: Tensor, exact: Tensor) -> float:
    """Relative L2 error."""
    return float((estimate - exact).norm() / exact.norm())


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))
