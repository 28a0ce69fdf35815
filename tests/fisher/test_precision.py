"""Standard errors of a running mean against the scatter of many repeated estimates."""

import math

import pytest
import torch

from cl_fisher.fisher.precision import LEAST_GROUPS, Precision


def watched(squares, sizes, group=1):
    """Feed squares [N, P] in batches of these sizes."""
    precision, total = Precision(group), torch.zeros(squares.shape[1], dtype=torch.float64)
    for batch in squares.split(list(sizes)):
        total += batch.sum(0)
        precision.add({"w": total[:2], "b": total[2:]}, len(batch))
    return precision


def flat(named):
    return torch.cat([t.flatten() for t in named.values()])


@pytest.mark.parametrize("sizes", [[8] * 25, [1, 40, 3, 16, 30, 10, 50, 2, 8, 40], [1] * 200])
def test_it_is_the_weighted_scatter_of_group_means(sizes):
    torch.manual_seed(0)
    squares = torch.randn(200, 5, dtype=torch.float64).square()
    precision = watched(squares, sizes)
    n = torch.tensor(sizes, dtype=torch.float64)[:, None]
    means = torch.stack([batch.mean(0) for batch in squares.split(sizes)])
    variance = (n * (means - squares.mean(0)).square()).sum(0) / (len(sizes) - 1) / 200
    assert precision.n_groups == len(sizes)
    torch.testing.assert_close(flat(precision.standard_error()), variance.sqrt())
    whole = math.sqrt(float(variance.sum())) / float(squares.mean(0).norm())
    assert precision.relative_error() == pytest.approx(whole)


def test_groups_of_one_give_the_textbook_error():
    torch.manual_seed(0)
    squares = torch.randn(60, 3, dtype=torch.float64).square()
    expected = squares.std(0) / math.sqrt(60)
    torch.testing.assert_close(flat(watched(squares, [1] * 60).standard_error()), expected)


def covered(draw, sizes, repeats=600):
    """How often two standard errors reach the truth, and the mean of se^2 over the true variance."""
    inside, ratio, truth = 0.0, 0.0, draw(200_000).mean()
    estimates = []
    for _ in range(repeats):
        squares = draw(sum(sizes))[:, None].expand(-1, 3)
        se = watched(squares, sizes).standard_error()["b"][0]
        estimates.append(squares[:, 0].mean())
        inside += float((estimates[-1] - truth).abs() <= 2 * se) / repeats
        ratio += float(se.square()) / repeats
    return inside, ratio / float(torch.stack(estimates).var())


@pytest.mark.parametrize("sizes", [[10] * 20, [1, 40, 3, 16, 30, 10, 50, 2, 8, 40, 20, 5, 25, 30, 20, 40]])
def test_coverage(sizes):
    torch.manual_seed(0)
    inside, ratio = covered(lambda n: torch.randn(n, dtype=torch.float64).square(), sizes)
    assert 0.90 < inside < 0.98  # Student's t with 15 to 19 degrees of freedom: 0.94
    assert ratio == pytest.approx(1, rel=0.15)


def test_heavy_tails_are_covered_less():
    torch.manual_seed(0)
    rare = covered(lambda n: (torch.rand(n, dtype=torch.float64) < 0.005) * 1.0, [10] * 20)
    assert rare[0] < 0.8
    assert rare[1] == pytest.approx(1, rel=0.3)  # unbiased all the same: seldom far too large, often 0


def test_nothing_is_said_of_few_groups():
    squares = torch.rand(200, 5, dtype=torch.float64)
    few = watched(squares[:70], [10] * 7)
    assert few.n_groups == LEAST_GROUPS - 1
    assert few.standard_error() is None
    assert few.relative_error() == math.inf
    assert watched(squares[:80], [10] * 8).standard_error() is not None
    assert watched(0 * squares, [10] * 20).relative_error() == math.inf


def test_small_batches_make_groups_together():
    squares = torch.rand(200, 5, dtype=torch.float64)
    together = watched(squares, [3] * 66 + [2], group=12)
    apart = watched(squares[:192], [12] * 16)
    assert together.n_groups == 16  # the last 8 examples are no group yet
    torch.testing.assert_close(flat(together.standard_error()), flat(apart.standard_error()))


def test_equal_groups_have_no_error_and_are_not_negative():
    precision = watched(torch.full((160, 5), 0.1, dtype=torch.float64), [16] * 10)
    assert float(flat(precision.standard_error()).max()) < 1e-8
    assert precision.relative_error() < 1e-7
