"""Whether a model can train on the last batch of an epoch when that holds a single example."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from cl_fisher.error import InputError, RunError
from cl_fisher.fisher.undisturbed import undisturbed
from cl_fisher.training.phase import Phase

_REFUSAL = "Expected more than 1 value per channel when training"
_REMEDY = "take another batch_size, or batchnorm=group_norm"


def check_single_example(
    model: nn.Module,
    phases: Sequence[Phase],
    batch_size: int,
    ends_an_epoch: Callable[[Phase, int], bool],
    dtype: torch.dtype,
) -> None:
    """Raise `InputError` if a phase will meet a batch of one example that this model refuses in training mode.

    Batch norm does, where it has one position per channel: a single value has no variance.

    Args:
        model: the network.
        phases: those whose examples are known beforehand, and in which the model is trained as it is.
        batch_size: of training.
        ends_an_epoch: whether a phase gets to the last one of its batches, whose number is given.
        dtype: of the inputs in training.
    """
    for phase in phases:
        n = sum(map(len, phase.data.values()))
        batches = -(-n // batch_size)
        if n - (batches - 1) * batch_size != 1 or not ends_an_epoch(phase, batches):
            continue
        part = next(part for part in phase.data.values() if len(part))
        try:
            with undisturbed(model), torch.no_grad():
                model.train()(part.inputs(torch.tensor([0])).to(dtype))
        except ValueError as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"batch_size={batch_size}: task {phase.number} has {n} examples, so one is left over for the last "
                f"batch of an epoch, and the model cannot train on one alone ({reason}); {_REMEDY}"
            ) from error
        return


@contextmanager
def single_examples_explained(phase: Phase) -> Iterator[None]:
    """Say what is behind batch norm's refusal where no look beforehand could tell: a memory joins the examples."""
    try:
        yield
    except ValueError as error:
        if not str(error).startswith(_REFUSAL):
            raise
        raise RunError(f"task {phase.number}: a batch of one example came, for batch norm; {_REMEDY}") from error
