"""Several processes that each see a share of the examples."""

from typing import Any

import torch.distributed as dist
from torch import Tensor

from cl_fisher.error import InputError


class Processes:
    """This process among those of torch.distributed's default group; alone unless `distributed`."""

    def __init__(self, distributed: bool) -> None:
        if distributed and not (dist.is_available() and dist.is_initialized()):
            raise InputError(
                "distributed=True, but torch.distributed is not initialised: call init_process_group first"
            )
        self.rank = dist.get_rank() if distributed else 0
        self.count = dist.get_world_size() if distributed else 1

    def add_up_(self, tensors: list[Tensor]) -> None:
        """Replace each tensor by its sum over the processes."""
        if self.count > 1:
            for tensor in tensors:
                dist.all_reduce(tensor)

    def total(self, number: float) -> float:
        """The sum of a number over the processes."""
        return sum(self.gathered(number))

    def gathered(self, thing: Any) -> list[Any]:
        """What each process has, in the order of ranks."""
        if self.count == 1:
            return [thing]
        everything: list[Any] = [None] * self.count
        dist.all_gather_object(everything, thing)
        return everything
