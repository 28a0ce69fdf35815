"""Training with a diagonal penalty as one would first write it down: slow loops that share no code with the package."""

import torch
from torch import nn

from cl_fisher.strategy.proximal import metric
from tests.strategy.lockstep import batches, examples, heads_at, task_loss


class Naive:
    """Plain training with strength/2 sum_i importance_i (theta_i - last_i)^2; a subclass says what is important."""

    def __init__(self, model, make_optimizer, strength, step="gradient", scenario="task"):
        self.model, self.strength, self.step, self.scenario = model, strength, step, scenario
        self.parameters = list(model.parameters())
        self.optimizer = make_optimizer(self.parameters)
        self.importance = self.last = None

    def train(self, number, clip=None, accumulate=1, steps=9):
        heads = heads_at(number, self.scenario)
        self.begin()
        all_batches = list(batches(number, self.scenario, steps * accumulate))
        for i in range(steps):
            loss = sum(task_loss(self.model, b, heads) for b in all_batches[i * accumulate : (i + 1) * accumulate])
            gradients = torch.autograd.grad(loss / accumulate, self.parameters)
            before = [p.detach().clone() for p in self.parameters]
            self.step_once(gradients, clip)
            self.stepped(gradients, before)
            yield i
        self.end(examples(number, self.scenario), heads[number - 1])
        self.last = [p.detach().clone() for p in self.parameters]

    def step_once(self, gradients, clip):
        for i, (p, g) in enumerate(zip(self.parameters, gradients, strict=True)):
            p.grad = g.clone()
            if self.last is not None and self.step == "gradient":
                p.grad += self.strength * self.importance[i] * (p.detach() - self.last[i])
        if clip is not None:
            nn.utils.clip_grad_norm_(self.parameters, clip)
        self.optimizer.step()
        if self.last is not None and self.step == "proximal":
            with torch.no_grad():
                for i, p in enumerate(self.parameters):
                    own, pull = metric(self.optimizer)[id(p)], self.strength * self.importance[i]
                    p.copy_((own * p + pull * self.last[i]) / (own + pull))

    def begin(self):
        """A task begins."""

    def stepped(self, gradients, before):
        """A step has been taken, from the weights `before`, where the task's loss has these gradients."""

    def end(self, data, head):
        """A task ends: make `importance`, one tensor per parameter."""
        raise NotImplementedError
