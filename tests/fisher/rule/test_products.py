"""Squared products by both routes against the definition."""

import pytest
import torch

from cl_fisher.fisher.rule import products


def obvious(left, right):
    total = 0
    for column in left:
        for n in range(len(right)):
            total = total + (column[n] @ right[n]).square()
    return total


@pytest.mark.parametrize("size", [1, 100, 400, 2**20])
@pytest.mark.parametrize("route", [products.products_by_examples, products.products_by_pairs])
@pytest.mark.parametrize(
    ("v", "n", "s", "o", "k"), [(1, 1, 1, 1, 1), (3, 5, 4, 2, 6), (2, 7, 1, 3, 2), (4, 3, 9, 5, 1)]
)
def test_both_routes(v, n, s, o, k, route, size, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(products, "CACHE_BYTES", size)
    monkeypatch.setattr(products, "PAIR_BYTES", size)
    left = [torch.randn(n, s, o, dtype=torch.float64).mT for _ in range(v)]
    right = torch.randn(n, s, k, dtype=torch.float64)
    torch.testing.assert_close(route(left, right), obvious(left, right), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(products.squared_products(left, right), obvious(left, right), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("columns", "positions", "by_pairs"), [(10, 4, True), (1, 8, False), (10, 64, False), (10, 1, True)]
)
def test_the_cheaper_route(columns, positions, by_pairs, monkeypatch):
    monkeypatch.setattr(products, "products_by_pairs", lambda *_: "pairs")
    monkeypatch.setattr(products, "products_by_examples", lambda *_: "examples")
    left = [torch.zeros(1).expand(2, 512, positions)] * columns
    route = products.squared_products(left, torch.zeros(1).expand(2, positions, 512))
    assert route == ("pairs" if by_pairs else "examples")


def test_cancelling_terms_are_never_negative():
    torch.manual_seed(0)
    left = [torch.ones(50, 4, 2) * torch.tensor([1.0, -1.0])]
    assert products.products_by_pairs(left, torch.randn(50, 1, 3).expand(50, 2, 3)).min() >= 0


def test_sum_of_squares():
    columns = [torch.randn(4, 3) for _ in range(3)]
    torch.testing.assert_close(products.sum_of_squares(iter(columns)), torch.stack(columns).square().sum((0, 1)))
