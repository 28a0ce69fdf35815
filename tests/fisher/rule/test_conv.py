"""Convolutions against autograd, one example at a time."""

from itertools import product

import pytest
import torch
from torch import nn

from cl_fisher.fisher import estimate_fisher
from cl_fisher.fisher.reference import brute_force
from cl_fisher.fisher.rule.conv import ConvRule

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
SIZES = {1: (9,), 2: (7, 6), 3: (5, 6, 5)}


def options(n):
    """All combinations in one dimension, a choice of them in more."""
    found = []
    for kernel, stride, dilation, padding, groups, mode in product(
        (1, 2, 3), (1, 2), (1, 2), (0, 1, "same", "valid"), (1, 2, 4), ("zeros", "reflect", "replicate", "circular")
    ):
        if padding == "same" and stride > 1:
            continue
        given = {"stride": stride, "dilation": dilation, "padding": padding, "groups": groups, "padding_mode": mode}
        found.append((kernel, given))
    return found[:: {1: 3, 2: 7, 3: 17}[n]]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("n", [1, 2, 3])
def test_every_option(n, check_rule):
    torch.manual_seed(n)
    for i, (kernel, given) in enumerate(options(n)):
        module = CONVOLUTIONS[n](4, 8, kernel, bias=i % 2 == 0, **given)
        check_rule(ConvRule(), module, torch.randn(3, 4, *SIZES[n]), n_columns=2)


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv2d(3, 4, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2)),
        nn.Conv2d(3, 4, (2, 4), padding="same", dilation=(3, 1)),
        nn.Conv2d(3, 4, (3, 2), padding=(2, 1), padding_mode="circular"),
        nn.Conv2d(3, 9, (3, 2), groups=3),
        nn.Conv2d(3, 3, 3, groups=3, padding=1),
        nn.Conv2d(3, 4, 7, padding=3),
        nn.Conv2d(3, 1, 1),
        nn.Conv2d(3, 4, 3, stride=5),
        nn.Conv2d(3, 4, (7, 6)),
    ],
    ids=str,
)
def test_differs_by_dimension(module, check_rule):
    torch.manual_seed(0)
    check_rule(ConvRule(), module, torch.randn(4, 3, 7, 6))


@pytest.mark.parametrize("cache", [1, 3000, 20_000])
@pytest.mark.parametrize("groups", [1, 2])
def test_small_parts_are_the_same(cache, groups, check_rule, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr("cl_fisher.fisher.rule.correlation.RESULT_BYTES", cache)
    monkeypatch.setattr("cl_fisher.fisher.rule.products.CACHE_BYTES", cache)
    monkeypatch.setattr("cl_fisher.fisher.rule.conv._LARGE_BYTES", cache)
    monkeypatch.setattr("cl_fisher.fisher.rule.conv.CHUNK_BYTES", cache)
    check_rule(ConvRule(), nn.Conv2d(4, 6, 3, padding=1, groups=groups), torch.randn(5, 4, 6, 5), n_columns=4)


@pytest.mark.parametrize("large", [1, 2**20])
def test_several_images_for_each_example(large, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr("cl_fisher.fisher.rule.conv._LARGE_BYTES", large)
    module, rule = nn.Conv2d(4, 6, 3, padding=1).double(), ConvRule()
    images = torch.randn(3, 5, 4, 6, 5, dtype=torch.float64)
    gradients = [torch.randn(3, 5, 6, 6, 5, dtype=torch.float64) for _ in range(2)]
    assert rule.covers(module, images)

    def each(g):
        found = rule.per_example(module, images.flatten(0, 1), g.flatten(0, 1))
        return {name: w.unflatten(0, (3, 5)).sum(1) for name, w in found.items()}

    for name, w in rule.per_example(module, images, gradients[0]).items():
        torch.testing.assert_close(w, each(gradients[0])[name])
        torch.testing.assert_close(rule.gradient(module, images, gradients[0])[name], w.sum(0))
        squares = sum(each(g)[name].square().sum(0) for g in gradients)
        torch.testing.assert_close(rule.squares(module, images, gradients)[name], squares)
    rows, row_gradients = rule.rows(module, images), rule.row_gradients(module, gradients[0])
    torch.testing.assert_close(
        torch.einsum("nso,nsk->nok", row_gradients, rows).view(3, *module.weight.shape), each(gradients[0])["weight"]
    )


def test_memory_layout_does_not_matter(check_rule):
    torch.manual_seed(0)
    inputs = torch.randn(3, 4, 6, 5).to(memory_format=torch.channels_last)
    check_rule(ConvRule(), nn.Conv2d(4, 6, 3), inputs)


def test_what_is_not_covered():
    class Doubled(nn.Conv2d):
        def forward(self, x):
            return 2 * super().forward(x)

    rule = ConvRule()
    assert not rule.covers(Doubled(3, 4, 2), torch.randn(2, 3, 5, 5))
    assert not rule.covers(nn.Conv2d(3, 4, 2), torch.randn(3, 5, 5))
    assert not rule.covers(nn.Conv2d(3, 4, 2), torch.randn(2, 4, 5, 5))
    assert not rule.covers(nn.ConvTranspose2d(3, 4, 2), torch.randn(2, 3, 5, 5))
    assert not rule.covers(nn.Linear(3, 4), torch.randn(2, 3))


class Frames(nn.Module):
    """A convolution of four frames at a time, the frames of an example next to each other."""

    def __init__(self, by_position):
        super().__init__()
        self.conv, self.out, self.by_position = nn.Conv2d(1, 3, 2), nn.Linear(12, 4), by_position

    def forward(self, x):
        x = x.unflatten(1, (4, 1, 3, 3))
        if self.by_position:
            h = self.conv(x.transpose(0, 1).flatten(0, 1)).unflatten(0, (4, -1)).transpose(0, 1)
        else:
            h = self.conv(x.flatten(0, 1)).unflatten(0, (-1, 4))
        return self.out(torch.tanh(h).sum(1).flatten(1))


MODELS = {
    "plain": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 6, 6)),
        nn.Conv2d(1, 3, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(3, 4, 2, bias=False),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(16, 4),
    ),
    "grouped": lambda: nn.Sequential(
        nn.Unflatten(1, (4, 3, 3)),
        nn.Conv2d(4, 4, 2, groups=4),
        nn.Tanh(),
        nn.Conv2d(4, 6, 1, groups=2),
        nn.Flatten(),
        nn.Linear(24, 4),
    ),
    "sequence": lambda: nn.Sequential(
        nn.Unflatten(1, (4, 9)),
        nn.Conv1d(4, 3, 3, padding="same", padding_mode="circular"),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(27, 4),
    ),
    "volume": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 3, 4, 3)), nn.Conv3d(1, 2, 2, stride=(1, 2, 1)), nn.Tanh(), nn.Flatten(), nn.Linear(16, 4)
    ),
    "weight norm": lambda: nn.Sequential(
        nn.Unflatten(1, (4, 3, 3)),
        nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 2, 2)),
        nn.Flatten(),
        nn.Linear(8, 4),
    ),
    "frames by example": lambda: Frames(False),
    "frames by position": lambda: Frames(True),
}


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("estimator", ["exact", "empirical"])
@pytest.mark.parametrize("name", MODELS)
def test_estimate_equals_brute_force_and_fallback(name, estimator, monkeypatch):
    torch.manual_seed(2)
    model = MODELS[name]().double()
    inputs, targets = torch.randn(7, 36, dtype=torch.float64), torch.randint(0, 4, (7,))
    truth = brute_force(model, inputs, targets if estimator == "empirical" else None).diagonal()
    batches = [(inputs[:4], targets[:4]), (inputs[4:], targets[4:])]
    found = torch.cat([t.flatten() for t in estimate_fisher(model, batches, estimator=estimator).diagonal().values()])
    torch.testing.assert_close(found, truth, rtol=1e-10, atol=1e-12)
    monkeypatch.setattr("cl_fisher.fisher.capture.RULES", ())
    again = torch.cat([t.flatten() for t in estimate_fisher(model, batches, estimator=estimator).diagonal().values()])
    torch.testing.assert_close(found, again, rtol=1e-10, atol=1e-12)
