"""Softmax outputs: confident networks in float32, positions that do not count, many classes, what is not the Fisher."""

import pytest
import torch
from torch import nn

from cl_fisher.error import InputError
from cl_fisher.fisher import estimate_fisher
from cl_fisher.fisher.draws import Draws
from cl_fisher.fisher.estimator.exact import Exact
from cl_fisher.fisher.estimator.monte_carlo import MonteCarlo
from cl_fisher.fisher.estimator.signs import Signs
from cl_fisher.fisher.estimator.stratified import Stratified
from cl_fisher.fisher.likelihood.categorical import Categorical


def confident(n_classes, gap):
    torch.manual_seed(0)
    outputs = torch.randn(50, n_classes)
    outputs[torch.arange(50), torch.arange(50) % n_classes] += gap
    return outputs


def relative(single, double):
    """Largest error of a vector over its norm."""
    return ((single.double() - double).norm(dim=-1) / double.norm(dim=-1)).max()


@pytest.mark.parametrize("gap", [0.0, 10.0, 30.0])
@pytest.mark.parametrize("n_classes", [2, 3, 10, 1000])
def test_float32_is_right_about_confident_networks(n_classes, gap):
    outputs, likelihood = confident(n_classes, gap), Categorical()
    wide = outputs.double()
    weights = Draws(0, torch.arange(50)).signs(3, likelihood.n_columns(outputs))
    tolerance = 1e-6 if gap else 1e-5  # between classes that are equally likely signs may cancel
    assert relative(likelihood.combine(outputs, weights.float()), likelihood.combine(wide, weights)) < tolerance
    assert relative(likelihood.column_norms(outputs)[..., None], likelihood.column_norms(wide)[..., None]) < 2e-6
    some = slice(0, 20)
    assert relative(likelihood.columns(outputs, some), likelihood.columns(wide, some)) < 2e-6
    targets = torch.arange(50) % n_classes
    assert relative(likelihood.score(outputs, targets), likelihood.score(wide, targets)) < 2e-6


def test_combined_columns_from_the_definition_in_float64():
    """diag and outer products as they are written, which float64 bears at this gap."""
    outputs = confident(6, 12.0).double()
    p = outputs.softmax(-1)
    signs = Draws(0, torch.arange(50)).signs(2, 6)
    naive = torch.einsum("nj,nc,kjn->knc", p.sqrt(), p, signs) - p.sqrt() * signs.transpose(1, 2)
    torch.testing.assert_close(Categorical().combine(outputs, signs), naive, rtol=1e-6, atol=1e-12)


def test_a_vocabulary_of_50000_needs_no_column(monkeypatch):
    def refuse(*_):
        raise AssertionError("a column was made")

    monkeypatch.setattr(Categorical, "columns", refuse)
    torch.manual_seed(0)
    outputs, targets = torch.randn(4, 50_000), torch.zeros(4, dtype=torch.long)
    for estimator in (Signs(1), Stratified(3)):
        columns = estimator.columns(Categorical(), outputs, targets, Draws(0, torch.arange(4)))
        assert columns.shape == (estimator.samples, *outputs.shape)
        trace = columns.square().sum((0, 2))
        torch.testing.assert_close(trace, 1 - outputs.softmax(-1).square().sum(-1), rtol=0.05, atol=0)


@pytest.mark.parametrize("shape", [(3, 7), (3, 4, 3)], ids=str)
def test_exact_columns_come_in_parts(shape):
    torch.manual_seed(0)
    outputs, targets, draws = torch.randn(shape), torch.zeros(shape[:-1]).long(), Draws(0, torch.arange(3))
    parts = list(Exact().parts(Categorical(), outputs, targets, draws, 5))
    assert max(map(len, parts)) == 5
    assert torch.equal(torch.cat(parts), Exact().columns(Categorical(), outputs, targets, draws))


ESTIMATORS = [Exact(), MonteCarlo(2), Signs(1), Signs(3), Stratified(2)]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: f"{type(e).__name__}")
@pytest.mark.parametrize(
    "likelihood", [Categorical(), Categorical(2.0), Categorical(reversed=True)], ids=["", "T", "-"]
)
@pytest.mark.parametrize("n_classes", [2, 4])
def test_positions_that_do_not_count_change_nothing_and_have_no_columns(estimator, likelihood, n_classes):
    torch.manual_seed(0)
    outputs, targets = torch.randn(5, 6, n_classes), torch.randint(0, n_classes, (5, 6))
    targets[:, 4:] = -100
    padded = estimator.columns(likelihood, *likelihood.select(outputs, targets, None), Draws(0, torch.arange(5)))
    short = estimator.columns(likelihood, outputs[:, :4], targets[:, :4], Draws(0, torch.arange(5)))
    assert padded[..., 4:, :].abs().max() == 0
    if isinstance(estimator, Exact):
        padded = padded[: len(short)]
    torch.testing.assert_close(padded[..., :4, :], short)
    assert likelihood.score(*likelihood.select(outputs, targets, None))[:, 4:].abs().max() == 0


def test_fisher_of_sequences_of_different_lengths():
    """Padded together or one by one, the same; padding in the middle, too."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 3)).double()
    inputs, targets = torch.randint(0, 9, (4, 5)), torch.randint(0, 3, (4, 5))
    counts = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 1, 0, 1, 0], [0, 0, 0, 0, 0]]).bool()
    told = targets.where(counts, -100)
    alone = [(inputs[n : n + 1, counts[n]], targets[n : n + 1, counts[n]]) for n in range(3)]
    for estimator in ("exact", "empirical", "argmax"):
        together = estimate_fisher(model, [(inputs, told)], estimator=estimator).diagonal()
        apart = [estimate_fisher(model, [batch], estimator=estimator).diagonal() for batch in alone]
        for name, f in together.items():
            torch.testing.assert_close(f, sum(a[name] for a in apart) / 4, rtol=1e-10, atol=1e-12)


def test_an_example_without_a_target_is_refused():
    with pytest.raises(InputError, match=r"-100\.\.0"):
        Categorical().select(torch.zeros(2, 3), torch.tensor([0, -100]), None)


def test_another_ignore_index():
    outputs, targets = torch.zeros(1, 2, 3), torch.tensor([[0, 2]])
    score = Categorical(ignore_index=0).score(*Categorical(ignore_index=0).select(outputs, targets, [1, 2]))
    torch.testing.assert_close(score, torch.tensor([[[0.0, 0.0], [0.5, -0.5]]]))


def test_temperature_softens_the_columns_without_a_factor():
    outputs, targets = confident(4, 6.0), torch.arange(50) % 4
    warm, plain = Categorical(temperature=3.0), Categorical()
    torch.testing.assert_close(warm.square_root(outputs), plain.square_root(outputs / 3))
    torch.testing.assert_close(warm.score(outputs, targets), plain.score(outputs / 3, targets))
    draws = Draws(0, torch.arange(50))
    assert torch.equal(warm.sample(outputs, draws, 9), plain.sample(outputs / 3, draws, 9))


def test_reversed_logits():
    outputs, targets = confident(4, 6.0), torch.arange(50) % 4
    backwards = Categorical(reversed=True)
    one_hot = nn.functional.one_hot(targets, 4)
    torch.testing.assert_close(-backwards.score(outputs, targets), one_hot - (-outputs).softmax(-1))
    torch.testing.assert_close(backwards.square_root(outputs), Categorical().square_root(-outputs))
    assert torch.equal(backwards.likeliest(outputs), outputs.argmin(-1))


@pytest.mark.parametrize(
    ("shape", "targets", "message"),
    [
        ((2, 3), torch.zeros(2), "class indices, not torch.float32"),
        ((2, 3), torch.zeros(2, dtype=torch.bool), "class indices, not torch.bool"),
        ((2, 3), torch.zeros(2, 3, dtype=torch.long), "class index per example"),
        ((2, 4, 3), torch.zeros(2, dtype=torch.long), "class index per position"),
        ((2, 4, 3), torch.zeros(2, 3, dtype=torch.long), "class index per position"),
        ((2, 4, 3), torch.full((2, 4), 3), r"targets lie in 3\.\.3, outputs in 0\.\.2"),
        ((2, 4, 3), torch.full((2, 4), -1), r"-1\.\.-1"),
        ((2, 1), torch.zeros(2, dtype=torch.long), "two or more"),
    ],
)
def test_targets_that_do_not_fit(shape, targets, message):
    with pytest.raises(InputError, match=message):
        Categorical().select(torch.zeros(shape), targets, None)


def test_bad_options():
    with pytest.raises(InputError, match="temperature=0"):
        Categorical(temperature=0)


@pytest.mark.parametrize("shape", [(7, 2), (7, 3), (5, 10), (4, 3, 5)])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_the_fewest_columns_have_the_same_products(shape, scale):
    outputs = scale * torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    likelihood = Categorical()
    few, all_ = likelihood.fewest(outputs, slice(None)).flatten(2), likelihood.square_root(outputs).flatten(2)
    assert len(few) == likelihood.n_fewest(outputs) == (shape[-1] - 1) * outputs[0, ..., 0].numel()
    torch.testing.assert_close(*(torch.einsum("vni,vnj->nij", c, c) for c in (few, all_)), rtol=1e-9, atol=1e-14)
    parts = [likelihood.fewest(outputs, slice(i, i + 2)).flatten(2) for i in range(0, len(few), 2)]
    assert torch.equal(torch.cat(parts), few)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
@pytest.mark.parametrize("gap", [0.0, 30.0, 80.0, 200.0])
def test_the_fewest_columns_in_single_precision(gap, order):
    outputs = torch.tensor([[gap, 0.0, -1.0, 0.5]])[:, list(order)]
    exact = Categorical().fewest(outputs.double(), slice(None))
    ours = Categorical().fewest(outputs, slice(None)).double()
    products = [torch.einsum("vni,vnj->ij", c, c) for c in (exact, ours)]
    assert bool(ours.isfinite().all())
    if gap <= 80:
        sizes = products[0].diagonal().sqrt()  # p_i p_j is far below sqrt(F_ii F_jj), and what is left of a sum
        assert bool(((products[1] - products[0]).abs() <= 1e-6 * sizes[:, None] * sizes).all())
