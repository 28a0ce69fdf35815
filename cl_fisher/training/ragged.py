"""Whether a model can train on the last batch of an epoch when that holds a single example."""

from collections.abc import Sequence

import torch
from torch import nn

from cl_fisher.error import InputError
from cl_fisher.fisher.undisturbed import undisturbed
from cl_fisher.training.phase import Phase


def check_single_example(
    model: nn.Module, phases: Sequence[Phase], batch_size: int, iterations: int | None, dtype: torch.dtype
) -> None:
    """Raise `InputError` if a phase will meet a batch of one example that this model refuses in training mode.

    Batch norm does, where it has one position per channel: a single value has no variance. `dtype` is that of the
    inputs in training.
    """
    for phase in phases:
        n = sum(map(len, phase.data.values()))
        batches = -(-n // batch_size)
        if n - (batches - 1) * batch_size != 1 or (iterations is not None and iterations < batches):
            continue
        part = next(part for part in phase.data.values() if len(part))
        try:
            with undisturbed(model), torch.no_grad():
                model.train()(part.inputs(torch.tensor([0])).to(dtype))
        except ValueError as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"batch_size={batch_size}: task {phase.number} has {n} examples, so one is left over for the last "
                f"batch of an epoch, and the model cannot train on one alone ({reason}); take another batch_size, or "
                "batchnorm=group_norm"
            ) from error
        return
