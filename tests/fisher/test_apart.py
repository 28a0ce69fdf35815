"""Inputs that all examples share, as long as a batch by chance."""

import pytest
import torch
from torch import nn

from cl_fisher.error import InputError
from cl_fisher.fisher import estimate_fisher
from tests.fisher.models import Model

N, SHARED = 15, 5


def inputs():
    generator = torch.Generator().manual_seed(0)
    return {
        "x": torch.randn(N, SHARED, 6, generator=generator, dtype=torch.float64),
        "own": torch.rand(N, generator=generator, dtype=torch.float64),
        "w": torch.rand(SHARED, generator=generator, dtype=torch.float64),
        "mask": torch.ones(SHARED, SHARED, dtype=torch.bool).triu(1),
    }


def weighted():
    return Model(
        lambda m, d: m.out(d["x"][:, 0]) * d["w"].sum() * d["own"][:, None],
        out=nn.Linear(6, 4),
    )


def attending():
    return Model(
        lambda m, d: m.out(m.attention(d["x"], d["x"], d["x"], attn_mask=d["mask"])[0].mean(1)),
        attention=nn.MultiheadAttention(6, 1, batch_first=True),
        out=nn.Linear(6, 4),
    )


def estimated(make, sizes, n=N, **options):
    torch.manual_seed(0)
    model, data, at, batches = make().double(), inputs(), 0, []
    wanted = {"own", "w"} if make is weighted else {"mask"}
    for size in sizes:
        part = {k: t[at : at + size] if k in ("x", "own") else t for k, t in data.items() if k in {"x"} | wanted}
        batches.append((part, torch.arange(at, at + size) % 4))
        at += size
    assert at == n
    return estimate_fisher(model, batches, **options)


@pytest.mark.parametrize("options", [{}, {"structure": "dense"}, {"estimator": "empirical"}], ids=str)
@pytest.mark.parametrize("make", [weighted, attending])
@pytest.mark.parametrize("sizes", [[10, 5], [5, 10], [5, 5, 5], [15], [1, 5, 9]], ids=str)
def test_what_is_shared_is_not_cut(make, sizes, options):
    expected = estimated(make, [8, 7], **options).to_dense()
    torch.testing.assert_close(estimated(make, sizes, **options).to_dense(), expected, rtol=1e-10, atol=1e-14)


def test_groups_and_importance_and_the_check_do_not_cut_it_either():
    from cl_fisher.fisher.estimator.batched_empirical import BatchedEmpirical

    for options in ({"estimator": BatchedEmpirical(3)}, {"sampling": "importance", "samples": 9}):
        expected = estimated(weighted, [8, 7], **options).to_dense()
        torch.testing.assert_close(estimated(weighted, [5, 5, 5], **options).to_dense(), expected)
    found = estimated(weighted, [5, 10], check=True).info["check"]
    assert found["check_cosine"] == pytest.approx(1, abs=1e-9)


def test_an_input_with_a_row_per_example_in_some_batches_only_is_refused():
    x = torch.randn(9, 6)
    batches = [
        ({"x": x[:5], "w": torch.ones(5)}, torch.zeros(5).long()),
        ({"x": x[5:], "w": torch.ones(5)}, torch.zeros(4).long()),
    ]
    model = Model(lambda m, d: m.out(d["x"]), out=nn.Linear(6, 4))
    with pytest.raises(InputError, match=r"w.*5 rows.*4 examples"):
        estimate_fisher(model, batches)
