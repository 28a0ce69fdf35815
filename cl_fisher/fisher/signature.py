"""Whether a model can be called as it will be: with one argument, the inputs of a batch."""

import inspect

from torch import nn

from cl_fisher.error import InputError


def check_model(model: nn.Module) -> None:
    """Raise `InputError` for what is no module, and for one whose forward needs more than one argument, or none."""
    if not isinstance(model, nn.Module):
        raise InputError(f"the model must be a torch.nn.Module, not {type(model).__name__}")
    try:
        signature = inspect.signature(model.forward)
    except (TypeError, ValueError):  # a scripted one does not tell
        return
    try:
        signature.bind(None)
    except TypeError as error:
        raise InputError(
            f"the model is called with the inputs of a batch as its one argument, and its forward{signature} cannot be "
            f"({error}): wrap it in a module that takes a tuple or dict of inputs apart"
        ) from error
