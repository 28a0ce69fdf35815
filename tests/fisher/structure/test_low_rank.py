"""The low-rank matrix and its sketch, beyond the contract."""

import pytest
import torch
from torch import nn

from cl_fisher.error import InputError
from cl_fisher.fisher import estimate_fisher
from cl_fisher.fisher.reference import brute_force
from cl_fisher.fisher.structure.coordinates import Coordinates
from cl_fisher.fisher.structure.low_rank import LowRank, LowRankStructure, nystrom


def psd(size, decay, seed=0):
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64)).Q
    return (basis * decay ** torch.arange(size, dtype=torch.float64)) @ basis.T


def probes(size, n, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(size, n, generator=generator, dtype=torch.float64)).Q


def best(dense, rank):
    """The twin of truncation, by all eigenvalues."""
    values, vectors = torch.linalg.eigh(dense)
    values[: len(values) - rank] = 0
    return (vectors * values) @ vectors.T


def model_and_data(n=7, dtype=torch.float64):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).to(dtype)
    return model, torch.randn(n, 4).to(dtype), torch.zeros(n, dtype=torch.long)


def test_sketch_is_the_approximation_of_the_formula():
    dense, omega = psd(30, 0.7), probes(30, 12)
    y = dense @ omega
    whole = y @ torch.linalg.solve(omega.T @ y, y.T)
    for rank in (12, 5):
        factor = nystrom(y, omega, rank, torch.float64)
        torch.testing.assert_close(factor.T @ factor, best(whole, rank), rtol=0, atol=1e-10)


@pytest.mark.parametrize("decay", [0.9, 0.7, 0.3])
def test_never_more_than_the_matrix_and_nearly_the_best(decay):
    dense = psd(60, decay)
    for seed in range(5):
        omega = probes(60, 20, seed)
        factor = nystrom(dense @ omega, omega, 10, torch.float64)
        kept = factor.T @ factor
        assert float(torch.linalg.eigvalsh(dense - kept)[0]) >= -1e-12
        assert float((dense - kept).norm()) <= 1.5 * float((dense - best(dense, 10)).norm()) + 1e-12


def test_exact_up_to_its_rank():
    """Seven examples with two free logits each: fourteen directions."""
    model, x, y = model_and_data()
    truth = brute_force(model, x)
    for rank, oversampling in ((14, 1), (20, 20), (100, 1)):
        fisher = estimate_fisher(model, [(x, y)], structure=LowRankStructure(rank, oversampling))
        torch.testing.assert_close(fisher.to_dense(), truth, rtol=0, atol=1e-12)
        assert fisher.info["trace_caught"] == pytest.approx(1.0, abs=1e-12)


def test_part_of_the_trace():
    model, x, y = model_and_data()
    fisher = estimate_fisher(model, [(x, y)], structure=LowRankStructure(rank=2))
    caught = fisher.trace() / float(brute_force(model, x).trace())
    assert fisher.factor.shape == (2, 51)
    assert fisher.info["trace_caught"] == pytest.approx(caught)
    assert 0.3 < caught < 1.0


def test_a_network_of_32_bits():
    model, x, y = model_and_data(20, torch.float32)
    truth = brute_force(model, x)
    fisher = estimate_fisher(model, [(x, y)], structure=LowRankStructure(20))
    kept = fisher.to_dense().double()
    assert fisher.factor.dtype == torch.float32
    assert not fisher.factor.requires_grad
    assert float((kept - truth).norm()) <= 1.2 * float((best(truth, 20) - truth).norm()) + 1e-6 * float(truth.norm())
    assert float(torch.linalg.eigvalsh(truth - kept)[0]) >= -1e-6 * float(truth.norm())


def test_no_gradient_at_all():
    model, x, y = model_and_data()
    with torch.no_grad():
        model[2].weight.zero_()
        model[2].bias.copy_(torch.tensor([1e6, 0.0, -1e6]))
    fisher = estimate_fisher(model, [(x, y)], structure="low_rank")
    assert fisher.trace() == 0.0
    assert fisher.info["trace_caught"] == 1.0


def test_merging_keeps_the_largest_eigenvalues():
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(4, 15, generator=generator, dtype=torch.float64) for _ in range(2))
    coordinates = Coordinates({"w": torch.Size([15])})
    merged = LowRank(a, coordinates, 4).merged(LowRank(b, coordinates, 4))
    assert merged.factor.shape == (4, 15)
    torch.testing.assert_close(merged.to_dense(), best(a.T @ a + b.T @ b, 4), rtol=0, atol=1e-12)
    assert merged.factor.shape == merged.merged(merged).factor.shape
    same = LowRank(a, coordinates, 4).merged(LowRank(a, coordinates, 4))
    assert same.info.get("merge_error", 0.0) < 1e-12


def test_batches_order_and_random_state_do_not_matter():
    """With fewer probes than weights, where the sketch is not exact."""
    model, x, y = model_and_data(30)
    few = LowRankStructure(rank=3, oversampling=2)
    once = estimate_fisher(model, [(x, y)], structure=few).to_dense()
    torch.manual_seed(7)
    order = torch.randperm(30)
    again = estimate_fisher(model, list(zip(x[order].split(8), y.split(8), order.split(8), strict=True)), structure=few)
    torch.testing.assert_close(again.to_dense(), once, rtol=1e-10, atol=1e-12)


def test_a_rank_that_no_machine_holds_is_refused():
    batches = [(torch.randn(2, 400), torch.zeros(2).long())]
    with pytest.raises(InputError, match="rank=1000000 and oversampling=20 would keep"):
        estimate_fisher(nn.Linear(400, 400), batches, structure=LowRankStructure(1_000_000))
