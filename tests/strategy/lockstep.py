"""Two small tasks in float64, and a plain training loop that can be watched step by step."""

import torch
from torch import nn

from cl_fisher.strategy.batch import Batch, masks, nll

HEADS = {
    "task": [range(2), range(2, 4)],
    "domain": [range(2), range(2)],
    "class": [range(2), range(4)],
}
OPTIMIZERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.01),
}


def network(dropout=False, seed=0):
    torch.manual_seed(seed)
    layers = [nn.Linear(4, 6), nn.Tanh(), *([nn.Dropout(0.3)] if dropout else []), nn.Linear(6, 4)]
    return nn.Sequential(*layers).double()


def heads_at(number, scenario="task"):
    """By task: the outputs that compete for its examples in task `number`."""
    return [HEADS[scenario][number - 1]] * number if scenario == "class" else HEADS[scenario][:number]


def examples(number, scenario="task", n=24):
    """Inputs [n, 4] and targets [n] of a task."""
    generator = torch.Generator().manual_seed(100 + number)
    x = torch.randn(n, 4, generator=generator, dtype=torch.float64) + number
    first = 0 if scenario == "domain" else 2 * (number - 1)
    return x, first + (x @ torch.tensor([1.0, -1.0, 0.5 * number, 0.2]).double() > number).long()


def batches(number, scenario="task", steps=9, size=6):
    """One Batch for each step."""
    x, y = examples(number, scenario)
    for step in range(steps):
        which = torch.randperm(len(x), generator=torch.Generator().manual_seed(step))[:size]
        yield Batch(x[which], y[which], which, torch.full((size,), number))


def task_loss(model, batch, heads):
    return nll(model(batch.inputs), batch.targets, batch.task, masks(heads, 4)).mean()


def take_step(strategy, optimizer, few, heads, clip=None):
    """One optimizer step on these batches, in the order of hooks that a plain loop has."""
    for batch in few:
        mixed = strategy.mix(batch)
        logits = strategy.model(mixed.inputs)
        loss = nll(logits, mixed.targets, mixed.task, masks(heads, 4)).mean()
        (strategy.loss(mixed, logits, loss) / len(few)).backward()
    strategy.add_gradient()
    if clip is not None:
        nn.utils.clip_grad_norm_(strategy.model.parameters(), clip)
    optimizer.step()
    strategy.after_step(optimizer)
    optimizer.zero_grad()


def train(strategy, optimizer, number, scenario="task", clip=None, accumulate=1, steps=9):
    """Train one task and consolidate it; yields after each optimizer step."""
    heads = heads_at(number, scenario)
    strategy.begin_task(number, heads)
    every = list(batches(number, scenario, steps * accumulate))
    for i in range(steps):
        take_step(strategy, optimizer, every[i * accumulate : (i + 1) * accumulate], heads, clip)
        yield i
    strategy.consolidate([examples(number, scenario)], heads[number - 1])


def assert_same_weights(model, other, **tolerance):
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.detach(), dict(other.named_parameters())[name].detach(), **tolerance)
