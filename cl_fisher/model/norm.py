"""What becomes of batch norm, whose running statistics otherwise follow every task."""

from collections.abc import Iterator
from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from cl_fisher.error import InputError

BatchNorm = Literal["as_is", "frozen", "group_norm"]
"""Left alone; with the first task's statistics from the second task on; or replaced before training."""

MOST_GROUPS = 32
PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def batch_norms(model: nn.Module) -> Iterator[nn.Module]:
    """Every batch norm layer."""
    return (module for module in model.modules() if isinstance(module, _BatchNorm))


def group_norms_instead(model: nn.Module) -> None:
    """Replace every batch norm layer by group norm (Wu & He 2018), with its scale and shift.

    The groups: the largest divisor of the channels that is at most 32 and leaves two channels or more to a group,
    because a group of one channel at one position is nothing but its mean. 64 channels: 32 groups; 20: 10; 7: 1.

    Raises:
        InputError: a layer that does more than batch norm, such as timm's BatchNormAct2d.
    """
    for parent in list(model.modules()):
        for name, module in list(parent.named_children()):
            if isinstance(module, _BatchNorm):
                setattr(parent, name, _group_norm(module))


def n_groups(channels: int) -> int:
    """Groups of a group norm over so many channels."""
    most = max(1, min(MOST_GROUPS, channels // 2))
    return next(n for n in range(most, 0, -1) if channels % n == 0)


def _group_norm(norm: _BatchNorm) -> nn.GroupNorm:
    if type(norm) not in PLAIN:
        raise InputError(
            f"batchnorm=group_norm: {type(norm).__name__} is more than batch norm and cannot be replaced; "
            "write batchnorm=as_is or batchnorm=frozen"
        )
    new = nn.GroupNorm(n_groups(norm.num_features), norm.num_features, norm.eps, norm.affine)
    if norm.affine:  # the very parameters: a pretrained scale stays, and so does what is frozen
        new.weight, new.bias = norm.weight, norm.bias
    return new.train(norm.training)
