"""Which examples a bounded memory keeps: two rules, on positions only."""

import torch
from torch import Tensor


def reservoir(seen: int, fresh: int, capacity: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Where the next `fresh` examples of a stream go, after `seen` others (Vitter 1985, algorithm R).

    Every example so far is then kept with the same probability. Returns slots and which of the fresh go there; slots
    that are not filled yet come in order. Each slot appears once: what a later example of the same call pushes out is
    left out.
    """
    number = torch.arange(seen, seen + fresh)
    drawn = (torch.rand(fresh, generator=generator, dtype=torch.float64) * (number + 1)).long()
    slots = torch.where(number < capacity, number, drawn)
    last = {slot: i for i, slot in enumerate(slots.tolist()) if slot < capacity}
    return torch.tensor(list(last), dtype=torch.int64), torch.tensor(list(last.values()), dtype=torch.int64)


def shares(sizes: Tensor, capacity: int) -> Tensor:
    """How many of each group are kept: equal shares, and what a small group leaves over goes to the others.

    Groups that are cut differ by one at most; the first ones get the remainder. No share grows when groups are added or
    grow, so that cutting early loses nothing that would be kept later.
    """
    left, level = capacity, int(sizes.max())
    for i, size in enumerate(sizes.sort().values.tolist()):
        fair = left // (len(sizes) - i)
        if size > fair:
            level = fair
            break
        left -= size
    share = sizes.clamp(max=level)
    share[(sizes > level).nonzero().flatten()[: capacity - int(share.sum())]] += 1
    return share


def balanced(group: Tensor, key: Tensor, capacity: int, per_group: int | None = None) -> Tensor:
    """Positions of what is kept, by group and by key: of each group those with the smallest keys.

    With random keys that is a uniform draw, with ranks the best ones. `per_group` takes the place of `capacity`.

    Args:
        group: int64 [N, k]: examples with the same row are of one group.
        key: float64 [N].
        capacity: how many are kept of all groups together.
        per_group: how many are kept of each group, if not None.
    """
    _, group, sizes = torch.unique(group, dim=0, return_inverse=True, return_counts=True)
    order = key.argsort(stable=True)
    order = order[group[order].argsort(stable=True)]
    rank = torch.arange(len(key)) - (sizes.cumsum(0) - sizes)[group[order]]
    share = shares(sizes, capacity) if per_group is None else sizes.clamp(max=per_group)
    return order[rank < share[group[order]]]
