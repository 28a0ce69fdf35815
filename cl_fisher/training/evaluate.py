"""Accuracies of a network, measured without leaving a trace in it."""

import torch
from torch import nn

from cl_fisher.benchmark.task import TaskSequence
from cl_fisher.dataset.examples import Examples
from cl_fisher.fisher.undisturbed import undisturbed
from cl_fisher.training.batches import ReadingBatches


def accuracy(model: nn.Module, examples: Examples, active: range | None) -> float | None:
    """Fraction of the examples whose right output is the largest among the active ones; None if undefined.

    Counted in whole numbers and divided once, so that no batch size and no ragged last batch can change it.
    """
    if active is None or len(examples) == 0:
        return None
    like = next(model.parameters())
    right = torch.zeros((), dtype=torch.int64, device=like.device)
    with undisturbed(model), torch.no_grad():
        for inputs, targets, _ in ReadingBatches(examples):
            best = model(inputs.to(like))[:, active.start : active.stop].argmax(-1)
            right += (best == targets.to(like.device) - active.start).sum()
    return int(right) / len(examples)


def accuracies(model: nn.Module, sequence: TaskSequence, split: str, seen: int) -> list[float | None]:
    """Accuracy on each task's `split` after `seen` tasks were trained: one row of the accuracy matrix."""
    return [accuracy(model, getattr(task, split), sequence.active(task, seen)) for task in sequence.tasks]
