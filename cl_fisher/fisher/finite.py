"""A Fisher that overflows, or that does not exist, is not handed out."""

from cl_fisher.error import InputError
from cl_fisher.fisher.one_pass import Pass, Question
from cl_fisher.fisher.stream import Stream
from cl_fisher.fisher.structure.diagonal import DiagonalAccumulator
from cl_fisher.fisher.structure.structure import Accumulator


def check_finite(accumulator: Accumulator, question: Question, stream: Stream) -> None:
    """Look at the sums after a pass; to name the parameter may take another pass.

    Raises:
        InputError: a sum is infinite or not a number.
    """
    if all(bool(total.sum().isfinite()) for total in accumulator.sums()):  # ten times faster than entry by entry
        return
    name = "some parameter"
    if isinstance(accumulator, DiagonalAccumulator) or stream.readable:
        diagonal = accumulator
        if not isinstance(diagonal, DiagonalAccumulator):
            diagonal = DiagonalAccumulator(question.trainable)
            stream.feed(Pass(question, [diagonal]), None)
        name = next((n for n, total in diagonal.totals.items() if not bool(total.isfinite().all())), name)
    raise InputError(
        f"the Fisher of {name} is not finite: its gradients are undefined, or too large to be squared; look at the "
        "inputs, the targets, and operations without a derivative, such as the root of 0"
    )
