"""Random numbers that belong to examples."""

import torch

from cl_fisher.fisher.draws import Draws


def test_draws_are_uniform_independent_and_repeatable():
    draws = Draws(7, torch.arange(50_000))
    u = draws.uniform(3)
    assert torch.equal(u, Draws(7, torch.arange(50_000)).uniform(3))
    assert 0 <= u.min() < u.max() < 1
    torch.testing.assert_close(u.mean(1), torch.full((3,), 0.5, dtype=torch.float64), atol=0.01, rtol=0)
    torch.testing.assert_close(torch.cov(u) * 12, torch.eye(3, dtype=torch.float64), atol=0.03, rtol=0)
    assert torch.equal(Draws(7, torch.tensor([5, 2])).uniform(3), u[:, [5, 2]])
    assert (u != Draws(8, torch.arange(50_000)).uniform(3)).all()
    assert set(draws.signs(2).unique().tolist()) == {-1.0, 1.0}
    assert draws.signs(2).mean().abs() < 0.02


def test_known_values():
    """So that an estimate of today can be had again tomorrow."""
    draws = Draws(7, torch.tensor([5, 2]))
    known = [[0.06584248426991346, 0.64714593798182563], [0.00722708420943474, 0.81069063433291222]]
    torch.testing.assert_close(draws.uniform(2), torch.tensor(known, dtype=torch.float64), rtol=1e-15, atol=0)
    assert draws.signs(2, 3).tolist() == [[[1, -1], [1, -1], [1, 1]], [[1, -1], [-1, -1], [-1, 1]]]


def test_made_in_chunks_they_are_the_same(monkeypatch):
    draws = Draws(3, torch.arange(6))
    uniform, signs = draws.uniform(4, 5), draws.signs(20, dtype=torch.float32)
    for chunk in (1, 7, 13):
        monkeypatch.setattr("cl_fisher.fisher.draws._CHUNK", chunk)
        assert torch.equal(draws.uniform(4, 5), uniform)
        assert torch.equal(draws.signs(20, dtype=torch.float32), signs)
    assert signs.dtype == torch.float32


def test_numbers_for_a_sequence_do_not_depend_on_its_length():
    draws = Draws(3, torch.arange(6))
    assert draws.per_example(2, 5, 3).shape == (2, 6, 5, 3)
    assert torch.equal(draws.per_example(2, 5, 3), draws.per_example(2, 8, 3)[:, :, :5])
    assert torch.equal(draws.per_example(4), draws.uniform(4))
