"""Embeddings against autograd, one example at a time."""

import pytest
import torch
from torch import nn

from cl_fisher.fisher import estimate_fisher
from cl_fisher.fisher.reference import brute_force
from cl_fisher.fisher.rule.embedding import EmbeddingRule


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
@pytest.mark.parametrize("padding_idx", [None, 0, -1])
@pytest.mark.parametrize("shape", [(6,), (6, 1), (6, 9), (6, 3, 4)])
def test_every_option(shape, padding_idx, dtype, check_rule):
    torch.manual_seed(0)
    tokens = torch.randint(0, 5, shape, dtype=dtype)
    check_rule(EmbeddingRule(), nn.Embedding(5, 3, padding_idx), tokens)


def test_several_calls_are_one():
    torch.manual_seed(0)
    rule, module = EmbeddingRule(), nn.Embedding(5, 3)
    tokens = [torch.randint(0, 5, (4, 2)), torch.randint(0, 5, (4,)), torch.randint(0, 5, (4, 2, 3))]
    gradients = [torch.randn(*t.shape, 3) for t in tokens]
    each = sum(rule.per_example(module, t, g)["weight"] for t, g in zip(tokens, gradients, strict=True))
    found = rule.per_example(module, rule.merged(tokens), rule.merged(gradients))["weight"]
    torch.testing.assert_close(found, each)


def test_memory_does_not_grow_with_examples_times_vocabulary():
    rule, module = EmbeddingRule(), nn.Embedding(100_000, 2)
    tokens, gradient = torch.randint(0, 100_000, (1000, 3)), torch.randn(1000, 3, 2)
    with torch.profiler.profile(profile_memory=True) as profile:
        rule.squares(module, tokens, [gradient])
    assert max(event.cpu_memory_usage for event in profile.events()) < 5 * 100_000 * 2 * 4


def test_what_is_not_covered():
    class Scaled(nn.Embedding):
        def forward(self, x):
            return super().forward(x) * 3

    rule, tokens = EmbeddingRule(), torch.zeros(4, 2, dtype=torch.long)
    assert not rule.covers(Scaled(5, 3), tokens)
    assert not rule.covers(nn.Embedding(5, 3), tokens[0, 0])
    for option in ({"max_norm": 1.0}, {"scale_grad_by_freq": True}, {"sparse": True}):
        assert not rule.covers(nn.Embedding(5, 3, **option), tokens)
    assert not rule.covers(nn.EmbeddingBag(5, 3), tokens)


class Text(nn.Module):
    """Two inputs through one embedding, mean over tokens; positions are embedded for the whole batch at once."""

    def __init__(self, **options):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(6, 3, **options), nn.Embedding(4, 3)
        self.norm, self.out = nn.LayerNorm(3), nn.Linear(6, 4)

    def forward(self, x):
        positions = self.positions(torch.arange(4))
        left, right = (self.norm(self.tokens(part) + positions) for part in (x[:, :4], x[:, 4:]))
        return self.out(torch.tanh(torch.cat([left, right * left], 2)).mean(1))


@pytest.mark.parametrize("options", [{}, {"padding_idx": 2}, {"scale_grad_by_freq": True}], ids=str)
def test_estimate_equals_brute_force(options):
    torch.manual_seed(2)
    model, inputs = Text(**options).double(), torch.randint(0, 6, (7, 8))
    if options.get("scale_grad_by_freq"):  # its gradient is another one, in one example too: only in batches of one
        batches = [(inputs[n : n + 1], torch.zeros(1, dtype=torch.long)) for n in range(7)]
    else:
        batches = [(inputs[:3], torch.zeros(3, dtype=torch.long)), (inputs[3:], torch.zeros(4, dtype=torch.long))]
    found = torch.cat([t.flatten() for t in estimate_fisher(model, batches).diagonal().values()])
    torch.testing.assert_close(found, brute_force(model, inputs).diagonal(), rtol=1e-10, atol=1e-12)
