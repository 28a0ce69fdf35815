"""What the options of targets outside the package may be. Declared to be read (see `signature`), never called."""

from typing import Any, Literal

from cl_fisher.bounds import Count, Fraction, Index, NonNegative

Precision = Literal[
    "transformer-engine",
    "transformer-engine-float16",
    "16-true",
    "16-mixed",
    "bf16-true",
    "bf16-mixed",
    "32-true",
    "64-true",
    "64",
    "32",
    "16",
    "bf16",
    64,
    32,
    16,
]


def trainer(
    accelerator: str,
    devices: Count | tuple[Index, ...] | Literal["auto"],
    precision: Precision,
    gradient_clip_val: NonNegative | None,
    accumulate_grad_batches: Count,
    **others: Any,
) -> None:
    """Lightning's Trainer."""


def optimizer(
    lr: NonNegative, momentum: NonNegative, weight_decay: NonNegative, betas: tuple[Fraction, Fraction], **others: Any
) -> None:
    """The optimizers of torch.optim; none has all of these."""
