"""Finding out that a network's outputs are not a function of each example alone, which a Fisher needs them to be."""

from typing import Any

from torch import Tensor, nn

from cl_fisher.error import InputError
from cl_fisher.fisher.batches import Batch

TOLERANCE = 1e-2
"""Relative to the largest output: far above what another batch size changes by rounding in 32 bits."""


def check_determined(model: nn.Module, batch: Batch, outputs: Tensor) -> None:
    """Compare `outputs` [N, ..., C], the model's for `batch`, with what it says of the first half of the examples.

    Costs half a forward pass, and a whole one more where something is wrong. In evaluation mode, on one device.

    Raises:
        InputError: the outputs differ because the model draws random numbers or has changed itself, or because they
            depend on the rest of the batch (statistics of the batch, as nn.BatchNorm without running statistics takes
            them).
    """
    outputs = outputs.detach()
    half = (len(outputs) + 1) // 2
    if same(_outputs(model, batch.part(slice(0, half))), outputs[:half]):
        return
    if not same(_outputs(model, batch), outputs):
        raise InputError(
            "the model draws at random or changes a buffer in evaluation mode (two passes over one batch differ), "
            "so it has no Fisher: look for functional.dropout without training=self.training, noise, counters"
        )
    raise InputError(
        "the model's outputs for an example depend on the other examples of its batch, so its Fisher is no mean over "
        "examples: look for normalization by the batch's own statistics (BatchNorm with track_running_stats=False)"
    )


def _outputs(model: nn.Module, batch: Batch) -> Any:
    """With gradients on, as `outputs` was made: some networks compute otherwise without."""
    outputs = model(batch.copied_inputs())
    return outputs.detach() if isinstance(outputs, Tensor) else outputs


def same(again: Any, outputs: Tensor) -> bool:
    """But for rounding."""
    if not isinstance(again, Tensor) or again.shape != outputs.shape:
        return False
    largest = outputs.abs().max() if outputs.numel() else outputs.new_zeros(())
    return bool(((again - outputs).abs() <= TOLERANCE * largest).all())
