"""Blurred task boundaries (Bang et al. 2021, "Rainbow Memory", sec. 3: Blurry-M)."""

import torch
from torch import Tensor

from cl_fisher.bounds import Fraction, Index, checked
from cl_fisher.seeding import generator


@checked
def blurred(sizes: list[int], fraction: Fraction, seed: Index) -> list[dict[int, Tensor]]:
    """Which examples of which task are trained on when, given the number of training examples of each task.

    `fraction` of each task's examples, drawn at random, is dealt out evenly over the times of the other tasks; nothing
    is lost or used twice. Entry t - 1 is what the time of task t brings: positions by task number, in rising order.
    """
    n_tasks = len(sizes)
    times: list[dict[int, Tensor]] = [{} for _ in sizes]
    for number, size in enumerate(sizes, start=1):
        away = round(fraction * size) if n_tasks > 1 else 0
        order = torch.randperm(size, generator=generator(seed, "blur", number))
        others = [t for t in range(1, n_tasks + 1) if t != number]
        for i, t in enumerate(others):
            times[t - 1][number] = order[:away][i :: len(others)].sort().values
        times[number - 1][number] = order[away:].sort().values
    return [{number: which for number, which in sorted(time.items()) if len(which)} for time in times]
