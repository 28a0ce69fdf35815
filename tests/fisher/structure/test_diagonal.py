"""The diagonal matrix against the dense one that it stands for."""

import pytest
import torch
from torch import nn

from cl_fisher.error import InputError
from cl_fisher.fisher import estimate_fisher, load_fisher
from cl_fisher.fisher.structure.diagonal import Diagonal


def matrix(seed, zero=False):
    generator = torch.Generator().manual_seed(seed)
    entries = {
        "a": torch.rand(2, 3, generator=generator, dtype=torch.float64),
        "b": torch.rand(2, generator=generator, dtype=torch.float64),
    }
    if zero:
        entries["a"][0] = 0
    return Diagonal(entries, info={"samples": 5})


def point(seed):
    generator = torch.Generator().manual_seed(100 + seed)
    return {
        "a": torch.randn(2, 3, generator=generator, dtype=torch.float64),
        "b": torch.randn(2, generator=generator, dtype=torch.float64),
    }


def flat(named):
    return torch.cat([t.flatten() for t in named.values()])


def test_operations_equal_dense():
    fisher, dense, v = matrix(0), matrix(0).to_dense(), point(0)
    damped = dense + 0.1 * torch.eye(8, dtype=torch.float64)
    torch.testing.assert_close(flat(fisher.mv(v)), dense @ flat(v))
    torch.testing.assert_close(fisher.quadratic(v), flat(v) @ dense @ flat(v))
    torch.testing.assert_close(flat(fisher.solve(v, 0.1)), torch.linalg.solve(damped, flat(v)))
    torch.testing.assert_close(flat(fisher.diagonal()), dense.diagonal())
    torch.testing.assert_close(fisher.eigenvalues(), torch.linalg.eigvalsh(dense).flip(0))
    assert fisher.trace() == pytest.approx(dense.trace().item())
    assert fisher.norm() == pytest.approx(torch.linalg.matrix_norm(dense).item())
    assert fisher.logdet(0.1) == pytest.approx(torch.logdet(damped).item())
    torch.testing.assert_close((2 * fisher + matrix(1)).to_dense(), 2 * dense + matrix(1).to_dense())


def test_samples_have_the_inverse_as_covariance():
    draws = matrix(0).sample(20_000, damping=0.5, seed=3)
    flattened = torch.cat([d.flatten(1) for d in draws.values()], 1)
    expected = torch.linalg.inv(matrix(0).to_dense() + 0.5 * torch.eye(8, dtype=torch.float64))
    torch.testing.assert_close(torch.cov(flattened.T), expected, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("zero", [False, True])
def test_completing_the_square(zero):
    f, g, a, b = matrix(0, zero), matrix(1, zero), point(0), point(1)
    h, c, k = f.complete_square(a, g, b)
    for seed in range(5):
        x = flat(point(10 + seed))
        apart = (x - flat(a)) @ f.to_dense() @ (x - flat(a)) + (x - flat(b)) @ g.to_dense() @ (x - flat(b))
        together = (x - flat(c)) @ h.to_dense() @ (x - flat(c)) + k
        torch.testing.assert_close(together, apart)


def test_gradient_is_added_in_place():
    fisher, delta, target = matrix(0), point(0), point(1)
    expected = flat(target) + 3 * fisher.to_dense() @ flat(delta)
    fisher.add_product_(target, delta, 3.0)
    torch.testing.assert_close(flat(target), expected)


def test_growth_pads_with_zeros():
    grown = matrix(0).grown({"a": torch.zeros(4, 3), "b": torch.zeros(5), "c": torch.zeros(2)})
    assert torch.equal(grown.entries["a"][:2], matrix(0).entries["a"])
    assert grown.trace() == matrix(0).trace()
    assert [tuple(f.shape) for f in grown.entries.values()] == [(4, 3), (5,), (2,)]


def test_save_and_load_bit_for_bit(tmp_path):
    torch.manual_seed(0)
    fisher = estimate_fisher(nn.Linear(3, 4), [(torch.randn(5, 3), torch.zeros(5, dtype=torch.long))])
    fisher.save(tmp_path / "f.safetensors")
    loaded = load_fisher(tmp_path / "f.safetensors")
    assert list(loaded.diagonal()) == ["weight", "bias"]
    assert all(torch.equal(loaded.diagonal()[name], f) for name, f in fisher.diagonal().items())
    assert loaded.info == fisher.info


def test_loading_what_is_no_fisher(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_fisher(tmp_path / "none")
    (tmp_path / "text").write_text("not tensors")
    with pytest.raises(InputError, match="not a safetensors file"):
        load_fisher(tmp_path / "text")
