"""Accuracies of a network, measured without leaving a trace in it."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from cl_fisher.benchmark.task import TaskSequence
from cl_fisher.dataset.examples import Examples
from cl_fisher.fisher.undisturbed import undisturbed
from cl_fisher.strategy.strategy import Strategy
from cl_fisher.training.batches import ReadingBatches


def accuracy(predict: Callable[[Tensor], Tensor], examples: Examples, active: range, like: Tensor) -> float:
    """Fraction of the examples whose right output is the largest among the active ones.

    Counted in whole numbers and divided once, so that no batch size and no ragged last batch can change it.
    """
    right = torch.zeros((), dtype=torch.int64, device=like.device)
    for inputs, targets, _ in ReadingBatches(examples):
        best = predict(inputs.to(like))[:, active.start : active.stop].argmax(-1)
        right += (best == targets.to(like.device) - active.start).sum()
    return int(right) / len(examples)


def accuracies(
    model: nn.Module, strategy: Strategy, sequence: TaskSequence, split: str, seen: int
) -> list[float | None]:
    """Accuracy on each task's `split` after `seen` tasks were trained: one row of the accuracy matrix.

    None where it is undefined: no examples, or classes that no output unit stands for yet.
    """
    row: list[float | None] = []
    like = next(model.parameters())
    for task in sequence.tasks:
        examples, active = getattr(task, split), sequence.active(task, seen)
        if active is None or len(examples) == 0:
            row.append(None)
            continue
        with undisturbed(model), torch.no_grad(), strategy.serving(task.number) as predict:
            row.append(accuracy(predict, examples, active, like))
    return row
