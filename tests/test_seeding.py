import torch

from cl_fisher.seeding import generator


def test_known_value():
    """Pinned: another process, platform or hash seed must give the same stream."""
    assert generator(0, "permutation", 1).initial_seed() == 4376158274035959707


def test_streams_differ_by_seed_and_purpose():
    keys = [(0,), (1,), (0, "a"), (0, "a", 1), (0, "a", 2), (0, "b", 1), (1, "a", 1)]
    draws = {tuple(torch.randint(1000, (8,), generator=generator(*key)).tolist()) for key in keys}
    assert len(draws) == len(keys)


def test_global_stream_is_left_alone():
    before = torch.get_rng_state()
    torch.randperm(5, generator=generator(3, "x"))
    assert torch.equal(before, torch.get_rng_state())
