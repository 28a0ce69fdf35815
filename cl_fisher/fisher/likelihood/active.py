"""Active outputs: those that a task's likelihood is over, such as the classes seen so far or one task's head."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cl_fisher.error import InputError


def active_outputs(classes: Sequence[int], outputs: Tensor) -> Tensor:
    """The active outputs' places in the last dimension of outputs [N, ..., C], int64 [len(classes)].

    Raises:
        InputError: none, one twice, or one that does not exist.
    """
    n = outputs.shape[-1]
    if len(set(classes)) != len(classes) or not classes or min(classes) < 0 or max(classes) >= n:
        raise InputError(f"classes={list(classes)}: distinct outputs from 0 to {n - 1} are wanted")
    return torch.tensor(list(classes), device=outputs.device)


def over_all_outputs(columns: Tensor, outputs: Tensor, classes: Sequence[int] | None) -> Tensor:
    """Columns [V, N, ..., len(classes)] as [V, *outputs.shape], of the outputs' type: zero where no class is active."""
    columns = columns.to(outputs)
    if classes is None:
        return columns
    everywhere = columns.new_zeros(len(columns), *outputs.shape)
    return everywhere.index_copy_(-1, active_outputs(classes, outputs), columns)
