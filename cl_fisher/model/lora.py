"""Low-rank adapters in a frozen network."""

import re
from collections.abc import Callable, Sequence

import torch
from torch import nn

from cl_fisher.bounds import Count, Fraction, checked
from cl_fisher.error import InputError
from cl_fisher.model.output_layer import output_layer
from cl_fisher.model.reach import reached


@checked
def lora(
    input_shape: Sequence[int],
    n_outputs: Count,
    base: Callable[..., nn.Module],
    rank: Count = 8,
    alpha: Count = 16,
    dropout: Fraction = 0.0,
    targets: Sequence[str] | None = None,
) -> nn.Module:
    """LoRA (Hu et al. 2022) by peft: a layer's weight becomes W + (alpha / rank) B A, of which A and B learn.

    All weights of the base are frozen, but those of its output layer, which learn as they are. What is frozen is
    trained by no optimizer, enters no Fisher and is held by no penalty: EWC is then about the low-rank update and the
    output layer. B is zero at first, so that the network starts as the base does; but norms whose scales are all zero
    (the last one of each block of timm's networks, as long as they are not trained) get ones, for a frozen zero would
    shut their branch off for good. Buffers of the base are no weights: what becomes of the running statistics of batch
    norm says the key `batchnorm`.

    Args:
        input_shape: shape of one input.
        n_outputs: output units, of all tasks together.
        base: makes the network within from input_shape and n_outputs.
        rank: of the update.
        alpha: the update's scale, times rank.
        dropout: of the adapters' inputs, in training.
        targets: names of layers that get adapters, or how these names end; None: every nn.Linear and (ungrouped)
            nn.Conv2d but the output layer, and but those that an adapter could not act through: whose weight is used
            without calling the layer (nn.MultiheadAttention, timm's BEiT), or whose output does not matter.

    Raises:
        InputError: peft is missing, the base has no linear output layer, no layer is a target, or an adapter could not
            act through one that is named.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
        from peft.tuners.tuners_utils import BaseTunerLayer
    except ModuleNotFoundError as error:
        raise InputError("model=lora needs the package peft: pip install 'cl_fisher[lora]'") from error
    if not callable(base):
        raise InputError(f"model.base={base}: it is a model of its own; write model@model.base=mlp, for instance")
    model = base(input_shape=input_shape, n_outputs=n_outputs)
    if any(isinstance(module, BaseTunerLayer) for module in model.modules()):
        raise InputError("model=lora needs a base without adapters; write model@model.base=mlp, for instance")
    output = output_layer(model, n_outputs)
    if output is None:
        raise InputError(f"model=lora needs a base that ends in a linear layer with {n_outputs} outputs")
    _open_branches(model)
    chosen = "|".join(map(re.escape, _targets(model, output, targets, input_shape)))
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=chosen)
    adapted: nn.Module = inject_adapter_in_model(config, model)
    output.requires_grad_(True)
    return adapted


@torch.no_grad()
def _open_branches(model: nn.Module) -> None:
    """Norms that let nothing through let everything through."""
    for module in model.modules():
        scale = getattr(module, "weight", None)
        if isinstance(scale, nn.Parameter) and scale.dim() == 1 and not scale.any():
            scale.fill_(1.0)


def _targets(
    model: nn.Module, output: nn.Linear, wanted: Sequence[str] | None, input_shape: Sequence[int]
) -> list[str]:
    """The full names of the layers that get adapters."""
    layers = [name for name, module in model.named_modules() if module is not output and _takes_adapters(module)]
    possible = reached(model, output, layers, input_shape)
    if not possible:
        raise InputError("model=lora: the base has no layer beside its output layer that could get adapters")
    if wanted is None:
        return possible
    named = [name for name in layers if any(f".{name}".endswith(f".{end}") for end in wanted)]
    if not named:
        raise InputError(f"model.targets={list(wanted)}: no layer is called so; there are {', '.join(possible)}")
    if shut := [name for name in named if name not in possible]:
        raise InputError(
            f"model.targets={list(wanted)}: an adapter could not act through {min(shut)}, which the network never "
            f"calls or whose output does not matter; there are {', '.join(possible)}"
        )
    return named


def _takes_adapters(module: nn.Module) -> bool:
    return type(module) is nn.Linear or (type(module) is nn.Conv2d and module.groups == 1)
