"""Incremental classifier and representation learning."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, normalize, one_hot

from cl_fisher.bounds import Count, NonNegative, checked
from cl_fisher.dataset.examples import Examples
from cl_fisher.error import InputError
from cl_fisher.fisher.undisturbed import undisturbed
from cl_fisher.strategy.batch import Batch, Heads, ends, masks, ranges
from cl_fisher.strategy.buffer import Buffer
from cl_fisher.strategy.strategy import Strategy
from cl_fisher.strategy.teacher import teacher

_PIECE = 500  # exemplars that are looked at together

SCENARIOS = ("task", "class")
WHY = "outputs of earlier tasks are only ever taught by the old network, so each task must bring outputs of its own"
TASK_ENDS = "herding chooses among all examples of a task"


class ICaRL(Strategy):
    """iCaRL (Rebuffi et al. 2017): exemplars join the training data, and predict by the nearest mean of their features.

    The loss takes the place of the softmax's, in a composition before other parts add to it: each output is a sigmoid
    with a binary cross-entropy, summed over outputs. Outputs of earlier tasks are taught by what the network of the
    last task says, the task's own by the labels (algorithm 3). Features are the inputs of the output layer, normalised
    to length 1. Exemplars are chosen by herding (algorithm 4); the first ones stay when shares shrink (algorithm 5).

    Args:
        model: the network; its output layer is a linear one.
        strength: weight of the old network's teaching; 1 in the paper.
        capacity: exemplars of all classes together.
        per_class: so many of each class instead.
    """

    chooses_data: ClassVar[bool] = True
    remembers: ClassVar[bool] = True
    reads_loss: bool = True

    @checked
    def __init__(
        self, model: nn.Module, strength: NonNegative = 1.0, capacity: Count = 1000, per_class: Count | None = None
    ) -> None:
        super().__init__(model, strength)
        self.buffer = Buffer("class_balanced", capacity, per_class)
        self._teacher: nn.Module | None = None
        self._old = torch.empty(0, dtype=torch.int64)
        self._heads: Heads = ()

    def begin_task(self, number: int, heads: Heads) -> None:
        """The network as it is now becomes the teacher of the earlier tasks' classes, as far as they have exemplars."""
        self.buffer.begin(number)
        self._heads = heads
        kept = self.buffer.columns
        self._old = kept["targets"][kept["task"] < number].unique() if kept else self._old
        self._teacher = teacher(self.model) if len(self.buffer) else None

    def training_data(self, tasks: Mapping[int, Examples]) -> Mapping[int, Examples]:
        """The task's examples and all exemplars."""
        kept = self.buffer.examples()
        both = {number: _joined(kept[number], tasks[number]) for number in kept.keys() & tasks.keys()}
        return dict(sorted({**kept, **tasks, **both}.items()))

    def loss(self, batch: Batch, logits: Tensor, loss: Tensor) -> Tensor:  # noqa: ARG002
        """The mean over examples; labels say nothing of old outputs, nor of those that do not compete."""
        self._check_begun(self.buffer.phase)
        competing = masks(self._heads, logits.shape[1]).to(logits.device)[batch.task - 1]
        competing[:, self._old] = False
        labels = one_hot(batch.targets, logits.shape[1]).to(logits.dtype)
        each = binary_cross_entropy_with_logits(logits, labels, reduction="none")
        whole = each.masked_fill(~competing, 0.0).sum()
        if self._teacher is not None and self.strength > 0:
            with torch.no_grad():
                old_network = self._teacher.to(next(self.model.parameters()))  # it was copied before the model moved
                said = old_network(batch.inputs)[:, self._old].sigmoid()
            taught = binary_cross_entropy_with_logits(logits[:, self._old], said.to(logits.dtype), reduction="sum")
            whole = whole + self.strength * taught
        return whole / len(logits)

    def consolidate(self, batches: Iterable[Sequence[Any]], classes: Sequence[int] | None = None) -> None:  # noqa: ARG002
        """Choose exemplars among (inputs, targets, position, task), the task's own if no task is given; read twice.

        Raises:
            InputError: `batches` is an iterator, or the second time the examples come in another order.
        """
        self._check_begun(self.buffer.phase)
        if isinstance(batches, Iterator):
            raise InputError(
                "iCaRL reads the batches twice, but `batches` is an iterator that is used up by one reading: give a "
                "list or a DataLoader"
            )
        found = []
        with undisturbed(self.model), torch.no_grad():
            for inputs, *about in batches:
                columns = (self._look(inputs)[0], about[0], _places(*about), self.buffer.task_of(*about))
                found.append([column.cpu() for column in columns])
        features, targets, places, task = (torch.cat(column) for column in zip(*found, strict=True))
        rank = self._ranked(features, targets, task)
        exemplars, n_read = [], 0
        for inputs, *about in batches:
            now = slice(n_read, n_read := n_read + len(inputs))
            if not (torch.equal(about[0].cpu(), targets[now]) and torch.equal(_places(*about).cpu(), places[now])):
                raise InputError(
                    "iCaRL reads the batches twice, and the second time examples came in another order: do not shuffle"
                )
            best = rank[now].isfinite()
            exemplars.append((inputs[best.to(inputs.device)], *(column[now][best] for column in (targets, task, rank))))
        for chosen in exemplars:
            self.buffer.add(*chosen)

    def _ranked(self, features: Tensor, targets: Tensor, task: Tensor) -> Tensor:
        """Place in the herd of its class, float64 [N]; infinite for examples that are not chosen."""
        room = self.buffer.room(targets, task)
        rank = torch.full((len(targets),), torch.inf, dtype=torch.float64)
        for of_class in targets.unique():
            own = (targets == of_class).nonzero().flatten()
            order = herd(features[own], room)
            rank[own[order]] = torch.arange(len(order), dtype=rank.dtype)
        return rank

    def check(self, batches: Iterable[Sequence[Any]], classes: Sequence[int] | None = None) -> None:  # noqa: ARG002
        """Are there features?"""
        with undisturbed(self.model), torch.no_grad():
            for inputs, *_ in batches:
                self._look(inputs)

    def _look(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs of the output layer at length 1, [N, d], and what it makes of them, [N, outputs]."""
        caught: list[tuple[nn.Linear, Tensor]] = []
        layers = [m for m in self.model.modules() if isinstance(m, nn.Linear)]
        hooks = [m.register_forward_pre_hook(lambda m, given: caught.append((m, given[0]))) for m in layers]
        try:
            logits = self.model(inputs.to(next(self.model.parameters())))
        finally:
            for hook in hooks:
                hook.remove()
        last = [x for m, x in caught if m.out_features == logits.shape[-1]]
        if not last:
            raise InputError(
                f"strategy=icarl needs a network that ends in a linear layer, here with {logits.shape[-1]} outputs"
            )
        features = last[-1].flatten(1)
        return normalize(features.to(torch.promote_types(features.dtype, torch.float32))), logits

    @contextmanager
    def serving(self, task: int) -> Iterator[Callable[[Tensor], Tensor]]:  # noqa: ARG002
        """Minus the distance to the mean of each class's exemplars; the network itself as long as there are none."""
        if not len(self.buffer):
            yield self.model
            return
        kept = self.buffer.columns
        features = torch.cat([self._look(some)[0] for some in kept["inputs"].split(_PIECE)])
        classes, which = kept["targets"].to(features.device).unique(return_inverse=True)
        sums = torch.zeros(len(classes), features.shape[1]).to(features).index_add_(0, which, features)
        means = normalize(sums)

        def predict(inputs: Tensor) -> Tensor:
            features, logits = self._look(inputs)
            scores = torch.full_like(logits, -torch.inf, dtype=features.dtype)
            scores[:, classes] = -torch.cdist(features, means)
            return scores

        yield predict

    def memory(self) -> dict[str, Any]:
        """The exemplars in the order of their choice, the teacher, what it teaches, and which outputs compete."""
        return self.buffer.state() | {
            "teacher": None if self._teacher is None else dict(self._teacher.state_dict()),
            "old": self._old.tolist(),
            "heads": ends(self._heads),
        }

    def recall(self, memory: dict[str, Any]) -> None:
        """Undo `memory`."""
        self.buffer.restore(memory)
        self._teacher = None if memory["teacher"] is None else teacher(self.model, memory["teacher"])
        self._old = torch.tensor(memory["old"], dtype=torch.int64)
        self._heads = ranges(memory["heads"])


def herd(features: Tensor, n: int) -> Tensor:
    """The first `n` examples in the order in which their mean stays nearest to that of all, from features [N, d].

    The k-th one minimises |mean - (sum of those before + its own) / k| among those that are left (algorithm 4).
    """
    mean, half = features.mean(0), features.square().sum(1) / 2
    wanted, left = mean.clone(), torch.ones(len(features), dtype=torch.bool)
    order = []
    for _ in range(min(n, len(features))):  # the minimum of |k mean - sum - own|^2 / 2, by its products
        best = int((features @ wanted - half).masked_fill(~left, -torch.inf).argmax())
        left[best] = False
        wanted += mean - features[best]
        order.append(best)
    return torch.tensor(order, dtype=torch.int64)


def _places(targets: Tensor, position: Tensor | None = None, *_: Tensor) -> Tensor:
    """What tells examples apart: their positions, or else only their classes."""
    return targets if position is None else position


def _joined(first: Examples, second: Examples) -> Examples:
    """Both as network inputs in memory: with blurred boundaries a class has exemplars before its task."""
    inputs = torch.cat([part.inputs(torch.arange(len(part))) for part in (first, second)])
    return Examples(inputs, torch.arange(len(inputs)), torch.cat([first.targets, second.targets]))
