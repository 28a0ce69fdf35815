"""What else can be asked of an estimate: which examples, how precise, how far, with how much memory."""

import math

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from cl_fisher.error import InputError
from cl_fisher.fisher import estimate, estimate_fisher, load_fisher
from cl_fisher.fisher.structure.dense import DenseStructure
from cl_fisher.fisher.structure.diagonal import Diagonal
from cl_fisher.fisher.structure.direct_sum import DirectSum


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.LayerNorm(8), nn.Linear(8, 4)).double()


def examples(n=400, confident=3.0):
    generator = torch.Generator().manual_seed(1)
    inputs = confident * torch.randn(n, 5, generator=generator, dtype=torch.float64)
    return inputs, torch.randint(0, 4, (n,), generator=generator), torch.arange(n)


def batches(size=50, order=None, index=True, n=400):
    data = [t if order is None else t[order] for t in examples(n)]
    return list(zip(*(t.split(size) for t in (data if index else data[:2])), strict=True))


def flat(fisher):
    return torch.cat([t.flatten() for t in fisher.diagonal().values()])


def important(seed, data=None, samples=60, **options):
    return flat(
        estimate_fisher(network(), data or batches(), sampling="importance", samples=samples, seed=seed, **options)
    )


def test_importance_sampling_is_unbiased():
    exact = flat(estimate_fisher(network(), batches()))
    draws = torch.stack([important(seed) for seed in range(200)])
    z = (draws.mean(0) - exact) / (draws.std(0) / math.sqrt(200)).clamp(min=1e-12)
    assert float(z.square().mean()) < 1.5
    assert float(z.abs().max()) < 5


def test_importance_sampling_does_not_depend_on_batches_or_order():
    order = torch.randperm(400, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(important(3, batches(37, order)), important(3), rtol=1e-9, atol=1e-14)
    torch.testing.assert_close(important(3, batches(index=False)), important(3), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("structure", ["diagonal", "kronecker", "ekfac", "dense"])
def test_importance_sampling_of_all_is_all(structure):
    """With many more draws than examples every weight is near 1."""
    model = network()[:2].append(nn.Linear(8, 4).double())
    whole = estimate_fisher(model, batches(), structure=structure).to_dense()
    many = estimate_fisher(model, batches(), structure=structure, sampling="importance", samples=40_000).to_dense()
    assert float((many - whole).norm() / whole.norm()) < 0.02


def test_importance_sampling_notices_another_order():
    data = TensorDataset(*examples()[:2])
    with pytest.raises(InputError, match="another order"):
        estimate_fisher(network(), DataLoader(data, 50, shuffle=True), sampling="importance", samples=60)


def test_what_is_read_twice_is_no_iterator():
    with pytest.raises(InputError, match="iterator"):
        estimate_fisher(network(), iter(batches()), sampling="importance", samples=60)
    with pytest.raises(InputError, match="iterator"):
        estimate_fisher(network()[:1].append(nn.Linear(8, 4).double()), iter(batches()), structure="ekfac")


def test_two_examples_of_one_index_are_refused_for_importance_sampling():
    twice = [(x, y, index % 50) for x, y, index in batches()]
    with pytest.raises(InputError, match="same index"):
        estimate_fisher(network(), twice, sampling="importance", samples=60)


@pytest.mark.parametrize("structure", ["diagonal", "dense", "mixed"])
def test_standard_errors_are_about_the_scatter_of_estimates(structure, tmp_path):
    fisher = estimate_fisher(network(), batches(), structure=structure, standard_error=True)
    error = torch.cat([t.flatten() for t in fisher.standard_error.values()])
    per_example = torch.stack([flat(estimate_fisher(network(), [b])) for b in batches(1)])
    true = per_example.std(0) / math.sqrt(400)
    assert 0.8 < float(error.norm() / true.norm()) < 1.25
    exact = per_example.mean(0)  # of `mixed`, the diagonal is another
    assert fisher.info["relative_error"] == pytest.approx(float(error.norm() / exact.norm()), rel=0.05)
    fisher.save(tmp_path / "fisher.safetensors")
    again = load_fisher(tmp_path / "fisher.safetensors")
    assert all(torch.equal(again.standard_error[name], t) for name, t in fisher.standard_error.items())


def test_a_single_large_batch_has_a_standard_error_too():
    assert estimate_fisher(network(), batches(400), standard_error=True).standard_error is not None


def test_stopping_when_it_is_enough():
    everything = estimate_fisher(network(), batches(20, n=4000), standard_error=True)
    stopped = estimate_fisher(network(), batches(20, n=4000), until=2 * everything.info["relative_error"])
    assert stopped.info["relative_error"] <= 2 * everything.info["relative_error"]
    assert 400 < stopped.info["samples"] < 2000  # four times fewer, or so
    assert float((flat(stopped) - flat(everything)).norm() / flat(everything).norm()) < 0.5


def test_too_few_examples_for_a_standard_error():
    with pytest.raises(InputError, match="8 groups"):
        estimate_fisher(network(), batches(n=60), standard_error=True)
    with pytest.warns(UserWarning, match=r"until=0.01 could not be judged"):
        assert estimate_fisher(network(), batches(n=60), until=0.01).standard_error is None


def test_standard_errors_are_refused_where_examples_do_not_count_alike():
    with pytest.raises(InputError, match="equal weight"):
        estimate_fisher(network(), batches(), sampling="importance", samples=60, until=0.1)


@pytest.mark.parametrize("structure", ["diagonal", "dense", "mixed", "block_diagonal", "low_rank"])
@pytest.mark.parametrize("estimator", ["exact", "signs"])
def test_little_memory_gives_the_same(monkeypatch, estimator, structure):
    whole = estimate_fisher(network(), batches(), estimator=estimator, structure=structure)
    monkeypatch.setattr(estimate, "_BYTES", 4000)
    parts = estimate_fisher(network(), batches(), estimator=estimator, structure=structure)
    torch.testing.assert_close(parts.to_dense(), whole.to_dense(), rtol=1e-8, atol=1e-13)


def test_progress_is_told(capsys):
    told = []
    estimate_fisher(network(), batches(), progress=lambda done, total: told.append((done, total)))
    assert told == [(50 * i, 400) for i in range(1, 9)]
    estimate_fisher(network(), batches(), progress=True)
    assert "400/400 examples" in capsys.readouterr().err


def test_provenance():
    fisher = estimate_fisher(
        network(), batches(), estimator="signs", structure=DenseStructure(limit=500), classes=[3, 1, 2, 0]
    )
    assert fisher.info["estimator"] == "signs"
    assert fisher.info["structure"] == "dense"
    assert fisher.info["options"]["structure"] == {"limit": 500}
    assert fisher.info["options"]["estimator"] == {"samples": 1}
    assert fisher.info["classes"] == [3, 1, 2, 0]
    assert fisher.info["dtype"] == "float64"
    assert fisher.info["samples"] == 400
    assert fisher.info["model"] == estimate_fisher(network(), batches()).info["model"]


def test_a_check_of_a_right_estimate_is_one_and_of_a_wrong_one_warns(monkeypatch):
    found = estimate_fisher(network(), batches(), check=True).info["check"]
    assert found["check_cosine"] == pytest.approx(1, abs=1e-9)
    assert found["check_ratio"] == pytest.approx(1, abs=1e-9)
    monkeypatch.setattr(Diagonal, "diagonal", lambda self: {n: f * (n != "3.weight") for n, f in self.entries.items()})
    with pytest.warns(UserWarning, match="this Fisher is wrong"):
        estimate_fisher(network(), batches(), check=True)


def test_blocks_of_different_kinds_add_up_only_if_one_is_zero():
    ones = Diagonal({"a": torch.ones(2)})
    dense = estimate_fisher(nn.Linear(1, 2, bias=False), [(torch.ones(3, 1), torch.zeros(3).long())], structure="dense")
    renamed = type(dense)(dense.matrix, type(dense.coordinates)({"a": torch.Size([2])}))
    one, two, zero = (DirectSum((block,), ("a",)) for block in (ones, renamed, 0 * ones))
    assert (zero + two).blocks == (renamed,)
    assert (two + zero).blocks == (renamed,)
    with pytest.raises(InputError, match="do not add up"):
        one + two
