"""What a task sequence is made of, in a few letters: a file of the same name may hold other data tomorrow."""

import hashlib

import torch

from cl_fisher.benchmark.task import TaskSequence

_INPUTS = 16
"""Of each part of a task."""


def fingerprint(sequence: TaskSequence) -> str:
    """Equal for the same tasks: 16 hexadecimal digits of all targets, and of some inputs at even distances.

    Inputs count to a thousandth, so that a transform that is rounded otherwise on another machine changes nothing.
    """
    digest = hashlib.sha256()
    for task in sequence.tasks:
        for part in (task.train, task.validation, task.test):
            some = torch.arange(0, len(part), max(1, len(part) // _INPUTS))[:_INPUTS]
            inputs = (1000 * part.inputs(some)).round().to(torch.int32)
            digest.update(f"{task.number} {task.units} {len(part)} {part.shape}".encode())
            digest.update(inputs.numpy().tobytes() + part.targets.numpy().tobytes())
    return digest.hexdigest()[:16]
