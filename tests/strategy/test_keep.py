"""Which examples a bounded memory keeps, against probabilities and slow re-implementations."""

import random

import pytest
import torch
from scipy.stats import chi2

from cl_fisher.seeding import generator
from cl_fisher.strategy.keep import balanced, reservoir, shares


def streamed(n, capacity, piece, draw):
    """What a reservoir holds after n examples that came in pieces."""
    kept = {}
    for first in range(0, n, piece):
        slots, which = reservoir(first, min(piece, n - first), capacity, draw)
        assert len(set(slots.tolist())) == len(slots)
        kept |= dict(zip(slots.tolist(), (first + which).tolist(), strict=True))
    return kept


@pytest.mark.parametrize("piece", [1, 7, 40])
@pytest.mark.parametrize(("n", "capacity"), [(3, 1), (5, 2), (40, 6), (40, 39), (40, 40), (40, 50)])
def test_each_example_of_a_stream_is_as_likely_to_stay(n, capacity, piece):
    runs = 400
    counts, draw = torch.zeros(n), generator(0, "test")
    for _ in range(runs):
        kept = streamed(n, capacity, piece, draw)
        assert sorted(kept) == list(range(min(capacity, n)))
        counts[list(kept.values())] += 1
    if capacity >= n:
        assert counts.tolist() == [runs] * n
        return
    expected, share = runs * capacity / n, capacity / n
    chi_square = ((counts - expected) ** 2 / expected).sum() / ((1 - share) * n / (n - 1))
    assert chi_square < chi2.ppf(0.999, n - 1)


def naive_shares(sizes, capacity):
    """One example after the other to the group that has the fewest and can take one; the first such group."""
    share = [0] * len(sizes)
    while sum(share) < min(capacity, sum(sizes)):
        i = min((i for i in range(len(sizes)) if share[i] < sizes[i]), key=lambda i: (share[i], i))
        share[i] += 1
    return share


def test_shares_are_dealt_one_by_one():
    draw = random.Random(0)
    for _ in range(300):
        sizes = [draw.randint(1, 12) for _ in range(draw.randint(1, 6))]
        capacity = draw.randint(1, 50)
        assert shares(torch.tensor(sizes), capacity).tolist() == naive_shares(sizes, capacity)


@pytest.mark.parametrize("per_group", [None, 3])
@pytest.mark.parametrize("piece", [1, 7, 100])
def test_cutting_early_keeps_what_cutting_at_the_end_would(piece, per_group):
    """Classes come one after the other, in pieces, and the memory is cut after each piece."""
    draw = generator(1, "test")
    group = torch.tensor([0] * 30 + [1] * 4 + [2] * 25 + [3] * 40)[:, None]
    key = torch.rand(len(group), generator=draw, dtype=torch.float64)
    kept = torch.empty(0, dtype=torch.int64)
    for some in torch.arange(len(group)).split(piece):
        kept = torch.cat([kept, some])
        kept = kept[balanced(group[kept], key[kept], 21, per_group)]
        assert len(kept) <= (21 if per_group is None else 4 * per_group)
    assert sorted(kept.tolist()) == sorted(balanced(group, key, 21, per_group).tolist())
    wanted = naive_shares([30, 4, 25, 40], 21) if per_group is None else [3] * 4
    for g, n in enumerate(wanted):
        own = (group[:, 0] == g).nonzero().flatten()
        assert sorted(own[key[own].argsort()[:n]].tolist()) == sorted(kept[group[kept, 0] == g].tolist())
