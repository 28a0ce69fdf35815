"""Any network of the package timm."""

import logging
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import torch
from torch import nn

from cl_fisher.bounds import Count, checked
from cl_fisher.error import InputError
from cl_fisher.model.images import image_shape
from cl_fisher.model.output_layer import output_layer


@checked
def timm_network(
    input_shape: Sequence[int], n_outputs: Count, name: str = "resnet18", pretrained: bool = False, **options: Any
) -> nn.Module:
    """A network of timm by name, for the tasks' channels and, where it has one size only, their image size.

    Args:
        input_shape: channels, height and width of an image.
        n_outputs: output units, of all tasks together.
        name: as in `timm.list_models()`, with a tag of pretrained weights if wanted: resnet18.a1_in1k.
        pretrained: start from timm's weights: downloaded, or found in the cache of an earlier download. The output
            layer is new; one channel gets the sum of the weights of the three. They were trained on colours less a
            mean, by a standard deviation; inputs here are as the data set scales them.
        options: further ones of `timm.create_model`, such as drop_rate, or patch_size for small images.

    Raises:
        InputError: timm is missing, no such network or no weights of it, options or images that it cannot take,
            an output layer that is not linear, or several.
    """
    try:
        import timm
    except ModuleNotFoundError as error:
        raise InputError("model=timm needs the package timm: pip install 'cl_fisher[timm]'") from error
    channels, height, width = image_shape("timm", input_shape)
    if not timm.is_model(name):
        near = get_close_matches(name, timm.list_models(), n=1)
        hint = f"did you mean '{near[0]}'?" if near else "timm.list_models() lists them"
        raise InputError(f"model.name={name}: timm has no such network; {hint}")
    known = timm.get_pretrained_cfg(name)
    if known is not None and known.fixed_input_size:
        options = {"img_size": (height, width)} | options
    if pretrained and (known is None or not known.has_weights):
        raise InputError(f"model.pretrained=true: timm has no weights for {name}; write model.pretrained=false")
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it tells of every retry
    try:
        model = timm.create_model(name, pretrained, num_classes=n_outputs, in_chans=channels, **options)
    except (OSError, RuntimeError, TypeError, ValueError, AssertionError) as error:
        if pretrained and isinstance(error, OSError):
            why = f"the weights of {name} are not in the cache and could not be downloaded"
            raise InputError(f"model.pretrained=true: {why} ({_first_line(error)})") from error
        raise InputError(f"model.name={name}: {_first_line(error)}") from error
    _check(model, name, (channels, height, width), n_outputs)
    return model


def _check(model: nn.Module, name: str, shape: tuple[int, int, int], n_outputs: int) -> None:
    """One look at images of zeros."""
    if output_layer(model, n_outputs) is None:
        raise InputError(f"model.name={name}: its output layer is no nn.Linear, which is needed; choose another one")
    if isinstance(getattr(model, "get_classifier", lambda: None)(), tuple):
        raise InputError(f"model.name={name}: it has several output layers, for distillation; choose one with one")
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(2, *shape))
    except (RuntimeError, ValueError, AssertionError) as error:
        size = "x".join(map(str, shape))
        raise InputError(f"model.name={name} cannot take images of {size} ({_first_line(error)})") from error
    model.train()


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
