"""Whether a model takes the tasks' inputs and returns an output for every class, seen before anything is trained."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cl_fisher.error import InputError
from cl_fisher.fisher.undisturbed import undisturbed
from cl_fisher.training.phase import Phase


def check_outputs(model: nn.Module, phases: Sequence[Phase], n_outputs: int, dtype: torch.dtype) -> None:
    """Raise `InputError` unless the model maps two training examples to logits [2, n_outputs].

    Both in training and in evaluation mode; `dtype` is that of the inputs in training.
    """
    part = next(part for part in phases[0].data.values() if len(part))
    inputs = part.inputs(torch.arange(min(2, len(part)))).to(dtype)
    shape, name, wanted = list(inputs.shape), type(model).__name__, [len(inputs), n_outputs]
    for training in (True, False):
        try:
            with undisturbed(model), torch.no_grad():
                outputs = model.train(training)(inputs)
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(f"model: {name} cannot take {dtype} inputs of shape {shape} ({reason})") from error
        if not isinstance(outputs, Tensor) or list(outputs.shape) != wanted:
            raise InputError(
                f"model: {name} makes {_described(outputs)} of inputs of shape {shape}; logits of shape {wanted} are "
                "wanted: n_outputs columns, one for each class of all tasks together"
            )


def _described(outputs: object) -> str:
    return f"outputs of shape {list(outputs.shape)}" if isinstance(outputs, Tensor) else f"a {type(outputs).__name__}"
