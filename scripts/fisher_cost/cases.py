"""The networks and data over which estimates are measured, and what the project aims at for each."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchvision.models import resnet18

CLASSES, VOCABULARY, TOKENS = 10, 1000, 32


@dataclass(frozen=True)
class Goal:
    """Multiples of a plain pass: the project's aim, and the best that another library was seen to take."""

    ours: float
    elsewhere: float | None = None


@dataclass(frozen=True)
class Case:
    """A network with data; everything is made anew from fixed seeds."""

    name: str
    network: Callable[[], nn.Module]
    data: Callable[[int], tuple[Tensor, Tensor]]
    examples: int
    """Over which time is taken."""
    checked: int
    """Over which the error is taken."""
    sizes: tuple[int, ...] = (64, 128, 256, 512, 1024)
    """Batch sizes from which the plain pass and each method take their best."""
    steps: int = 100
    """Of training, so that probabilities are neither uniform nor certain."""
    goals: Mapping[str, Goal] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Estimates that are not measured, and why."""
    gap: float | None = None
    """Median distance of the two largest logits, to which the last layer is scaled up."""

    def quick(self) -> "Case":
        """A form that takes seconds."""
        few = min(self.checked, 8)
        return replace(self, examples=2 * few, checked=few, sizes=(few,), steps=min(self.steps, 5))

    def model(self) -> nn.Module:
        """Trained a little, in evaluation mode."""
        torch.manual_seed(0)
        model = self.network().train()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        size = min(64, self.examples)
        inputs, targets = self.data(size * self.steps)
        for x, y in zip(inputs.split(size), targets.split(size), strict=True):
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()
        model.zero_grad()
        model.eval()
        if self.gap is not None:
            with torch.no_grad():
                top = model(inputs[:size]).topk(2).values
                factor = self.gap / (top[:, 0] - top[:, 1]).median()
                for p in list(model.parameters())[-2:]:
                    p.mul_(factor)
        return model


def vectors(n: int) -> tuple[Tensor, Tensor]:
    """784 numbers each."""
    return _noisy(n, (784,), 0.15)


def images(n: int) -> tuple[Tensor, Tensor]:
    """3x32x32 each."""
    return _noisy(n, (3, 32, 32), 0.1)


def sentences(n: int) -> tuple[Tensor, Tensor]:
    """Tokens, of which one in eight tells the class."""
    generator = torch.Generator().manual_seed(1)
    targets = torch.randint(CLASSES, (n,), generator=generator)
    tokens = torch.randint(VOCABULARY, (n, TOKENS), generator=generator)
    telling = torch.rand(n, TOKENS, generator=generator) < 0.125
    return torch.where(telling, tokens // CLASSES * CLASSES + targets[:, None], tokens), targets


def _noisy(n: int, shape: tuple[int, ...], signal: float) -> tuple[Tensor, Tensor]:
    """Normal noise around a pattern per class."""
    patterns = torch.randn(CLASSES, *shape, generator=torch.Generator().manual_seed(2))
    generator = torch.Generator().manual_seed(1)
    targets = torch.randint(CLASSES, (n,), generator=generator)
    return torch.randn(n, *shape, generator=generator).add_(patterns[targets], alpha=signal), targets


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 400), nn.ReLU(), nn.Linear(400, CLASSES)
    )  # fmt: skip


def cnn() -> nn.Module:
    """Three 3x3 convolutions, each followed by pooling, and a linear layer."""
    widths = (3, 16, 32, 64)
    stages = [
        nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)) for a, b in itertools.pairwise(widths)
    ]
    parts = [module for stage in stages for module in stage]
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(64 * 4 * 4, CLASSES))


def resnet() -> nn.Module:
    """ResNet-18 with the stem for images of 32x32: a 3x3 convolution of stride 1, no pooling."""
    model = resnet18(num_classes=CLASSES)
    model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    return model


class Transformer(nn.Module):
    """Token embedding, two encoder layers, the mean over positions, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 128)
        layer = nn.TransformerEncoderLayer(128, 4, dim_feedforward=512, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(128, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.encoder(self.embedding(tokens)).mean(1))


_MLP = {
    **dict.fromkeys(("empirical", "labels", "signs"), Goal(1.15, 1.3)),
    "exact": Goal(2.6, 4.6),
    "kfac": Goal(1.8, 2.4),
    "ekfac": Goal(4.0, 10.4),
}
CASES = {
    case.name: case
    for case in (
        Case("mlp", mlp, vectors, 10_000, 512, goals=_MLP),
        Case(
            "cnn",
            cnn,
            images,
            2048,
            128,
            goals={"empirical": Goal(1.6, 2.6), "exact": Goal(8, 14.6), "kfac": Goal(2.4, 3)},
        ),
        Case(
            "resnet",
            resnet,
            images,
            256,
            4,
            (128,),
            8,
            goals={"empirical": Goal(2), "exact": Goal(12)},
            left_out={"ekfac": "left out: its factors, up to 4,609 rows, take longer to decompose than all else here"},
        ),
        Case(
            "transformer", Transformer, sentences, 1024, 64, goals={"empirical": Goal(1.4, 2.3), "exact": Goal(9, 19.6)}
        ),
    )
}
CONFIDENT = Case("confident", mlp, vectors, 1024, 512, gap=30.0)
