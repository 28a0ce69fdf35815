"""Each task gets weights of its own within one network."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cl_fisher.bounds import Count, Fraction, NonNegative, checked
from cl_fisher.error import InputError
from cl_fisher.strategy.batch import Batch, Heads, ends, ranges
from cl_fisher.strategy.strategy import Strategy

SCENARIOS = ("task",)
WHY = "each task uses its own part of the network, and which one must be known"
UNBLURRED = "a task's weights are to learn that task alone"
OLD_ROWS = ("penalised", "frozen")
WHY_ROWS = "itself holds the rows of earlier tasks where they are"


class PackNet(Strategy):
    """After each task the smallest of its weights are set to zero and left to later tasks, the others never move again.

    Mallya & Lazebnik 2018, "PackNet: adding multiple tasks to a single network by iterative pruning". Weights are
    parameters with two dimensions or more, pruned layer by layer. Biases and norms, with their running statistics,
    belong to task 1. The last linear layer is not pruned: each task has its rows of it. A task is predicted by the
    weights of its own and of earlier tasks.

    The paper trains on for half as many epochs after pruning. Here a task is trained once: `prune_after` says at which
    of its steps to prune, and the rest of them trains what is kept; null prunes at the end, without training on.

    Args:
        model: the network.
        strength: accepted and ignored.
        prune: fraction of a task's weights, in each layer, that is given back (the paper: 0.5 to 0.75).
        prune_after: optimizer steps of a task before it is pruned; at its end if None, or if it has fewer.

    Raises:
        InputError: the network has no linear layer.
    """

    @checked
    def __init__(
        self, model: nn.Module, strength: NonNegative = 0.0, prune: Fraction = 0.5, prune_after: Count | None = None
    ) -> None:
        super().__init__(model, strength)
        self.prune, self.prune_after = prune, prune_after
        linear = [name for name, m in model.named_modules() if isinstance(m, nn.Linear)]
        if not linear:
            raise InputError("strategy=packnet needs a network that ends in a linear layer: its rows are the tasks'")
        self._rows = [f"{linear[-1]}.{name}" for name, _ in model.get_submodule(linear[-1]).named_parameters()]
        self._owner = {
            name: torch.zeros(p.shape, dtype=torch.int16)
            for name, p in model.named_parameters()
            if p.dim() > 1 and p.requires_grad and name not in self._rows
        }
        """By parameter: the number of the task that each weight belongs to, 0 where it is free."""
        self._task, self._steps, self._pruned = 0, 0, True
        self._head: range | None = None
        self._own: dict[str, Tensor] = {}
        """By parameter: which weights the task may move."""
        self._fixed: dict[str, Tensor] = {}
        """By parameter: where the others stay."""

    def begin_task(self, number: int, heads: Heads) -> None:
        """What is free is the task's, and nothing else."""
        self._finish()
        self._task, self._steps, self._pruned, self._head = number, 0, False, heads[number - 1]
        self._hold()

    def _hold(self) -> None:
        """Say what the task may move; the others stay where they are."""
        for name, p in self.model.named_parameters():
            own = torch.full(p.shape, self._task == 1, device=p.device)
            if name in self._rows and self._head is not None:
                own.zero_()[self._head.start : self._head.stop] = True
            elif name in self._owner:
                own = self._owner[name].to(p.device) == (self._task if self._pruned else 0)
            self._own[name], self._fixed[name] = own, p.detach().clone()

    def mix(self, batch: Batch) -> Batch:
        """Running statistics are those of task 1: later on they are used, and not renewed."""
        if self._task > 1:
            for module in self.model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return batch

    def add_gradient(self, parameters: Iterable[nn.Parameter] | None = None) -> None:
        """Leave the gradient to the task's own weights alone, so that clipping sees no others."""
        self._check_begun(self._task)
        if not self._own:  # the state is one that was stored within a task, and held ones have not moved since
            self._hold()
        wanted = None if parameters is None else {id(p) for p in parameters}
        for name, p in self.model.named_parameters():
            if name in self._own and p.grad is not None and (wanted is None or id(p) in wanted):
                p.grad.masked_fill_(~self._own[name].to(p.device), 0.0)

    @torch.no_grad()
    def after_step(self, optimizer: Optimizer) -> None:  # noqa: ARG002
        """Put back what momentum or weight decay have moved; prune when it is time."""
        for name, p in self.model.named_parameters():
            if name in self._own:
                self._own[name], self._fixed[name] = self._own[name].to(p.device), self._fixed[name].to(p)
                p.copy_(torch.where(self._own[name], p, self._fixed[name]))
        self._steps += 1
        if self._steps == self.prune_after:
            self._finish()

    @torch.no_grad()
    def _finish(self) -> None:
        """Give the smallest weights back and own the others."""
        if self._pruned:
            return
        self._pruned = True
        weights = dict(self.model.named_parameters())
        for name, owner in self._owner.items():
            free = (owner == 0).flatten().nonzero().flatten()
            order = weights[name].detach().flatten().cpu()[free].abs().argsort(stable=True)
            owner.view(-1)[free[order[round(self.prune * len(free)) :]]] = self._task
            given_back = (owner == 0).to(weights[name].device)
            weights[name].masked_fill_(given_back, 0.0)
            if name in self._own:
                self._own[name] = owner == self._task
                self._fixed[name] = self._fixed[name].to(weights[name]).masked_fill(given_back, 0.0)

    def consolidate(self, batches: Iterable[Sequence[Any]], classes: Sequence[int] | None = None) -> None:  # noqa: ARG002
        """Prune, unless that has happened before."""
        self._check_begun(self._task)
        self._finish()

    @contextmanager
    def serving(self, task: int) -> Iterator[Callable[[Tensor], Tensor]]:
        """Without the weights that came after the task."""
        if task >= self._task:
            yield self.model
            return
        weights = dict(self.model.named_parameters())
        now = {name: weights[name].detach().clone() for name in self._owner}
        try:
            with torch.no_grad():
                for name, owner in self._owner.items():
                    weights[name].masked_fill_(((owner == 0) | (owner > task)).to(weights[name].device), 0.0)
            yield self.model
        finally:
            with torch.no_grad():
                for name, before in now.items():
                    weights[name].copy_(before)

    def memory(self) -> dict[str, Any]:
        """Whose the weights are, and how far the task is. What it may move follows from that."""
        owner = {name: owner.clone() for name, owner in self._owner.items()}
        now = {"task": self._task, "steps": self._steps, "pruned": self._pruned, "head": ends([self._head])}
        return {"owner": owner} | now

    def recall(self, memory: dict[str, Any]) -> None:
        """Undo `memory`."""
        self._owner = {name: owner.clone() for name, owner in memory["owner"].items()}
        self._task, self._steps, self._pruned = memory["task"], memory["steps"], memory["pruned"]
        (self._head,) = ranges(memory["head"])
        self._own, self._fixed = {}, {}
