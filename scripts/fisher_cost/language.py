"""The diagonal of a language model of 110 million parameters, in under 10 GiB."""

import inspect
import time

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

from cl_fisher.error import InputError
from cl_fisher.fisher import estimate_fisher
from cl_fisher.fisher.estimator.signs import Signs
from fisher_cost.clock import reason
from fisher_cost.memory import resident
from fisher_cost.table import Row

LIMIT_GIB = 10.0


class Block(nn.Module):
    """Causal self-attention and a feed-forward part, each after a norm and around a residual."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        parts = self.qkv(self.norm1(x)).view(n, length, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(n, length, width))
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))


class Decoder(nn.Module):
    """Tokens [N, T] to logits of the next ones [N, T, vocabulary]; the head has weights of its own."""

    def __init__(self, vocabulary: int, width: int, heads: int, depth: int, length: int) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(*[Block(width, heads) for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)
        self.register_buffer("positions", torch.arange(length)[None])

    def forward(self, tokens: Tensor) -> Tensor:
        # as many rows as tokens has: each example its own, for whoever takes examples apart
        x = self.token(tokens) + self.position(self.positions.expand(len(tokens), -1))
        return self.head(self.norm(self.blocks(x)))


def measure(quick: bool) -> list[Row]:
    """Time and peak memory of the whole process."""
    shape = (64, 16, 2, 2, 8) if quick else (16_000, 768, 12, 12, 128)
    n, size = (4, 2) if quick else (64, 4)
    torch.manual_seed(0)
    model = Decoder(*shape).eval()
    text = torch.randint(shape[0], (n, shape[-1] + 1), generator=torch.Generator().manual_seed(1))
    inputs, targets = text[:, :-1], text[:, 1:]
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {n} sequences of {shape[-1]} tokens")
    few = min(n, 2 * size)
    start = time.process_time()
    for x, y in zip(inputs[:few].split(size), targets[:few].split(size), strict=True):
        model.zero_grad()
        cross_entropy(model(x).flatten(0, 1), y.flatten()).backward()
    one = (time.process_time() - start) / few
    model.zero_grad()
    return [_row(name, estimator, model, inputs, targets, size, one) for name, estimator in _ESTIMATORS.items()]


_ESTIMATORS = {"empirical": "empirical", "signs": Signs(1)}


def _row(name, estimator, model, inputs, targets, size, one) -> Row:
    """One estimate; its ratio is to a plain pass over as many sequences."""
    row = Row("language", "cl_fisher", name, size)
    batches = list(zip(inputs.split(size), targets.split(size), strict=True))
    options = {"progress": True} if "progress" in inspect.signature(estimate_fisher).parameters else {}
    start = time.process_time()
    try:
        fisher = estimate_fisher(model, batches, "categorical", estimator, "diagonal", **options)
    except (InputError, RuntimeError, MemoryError) as error:
        row.remark = reason(error)
        return row
    seconds = time.process_time() - start
    row.ratio = row.low = row.high = seconds / len(inputs) / one
    row.extra_mib = resident("VmHWM")
    peak = f"peak of the process {row.extra_mib / 1024:.1f} GiB of {LIMIT_GIB:g}"
    row.remark = f"{seconds:.0f} s, trace {fisher.trace():.4g}, {peak}"
    return row
