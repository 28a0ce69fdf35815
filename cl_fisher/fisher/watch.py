"""An estimate that is watched: its standard errors, and when they are small enough."""

from collections.abc import Mapping

from torch import Tensor, nn

from cl_fisher.error import InputError
from cl_fisher.fisher.precision import LEAST_GROUPS, Precision
from cl_fisher.fisher.structure.diagonal import DiagonalAccumulator
from cl_fisher.fisher.structure.structure import Accumulator


class Watch:
    """The precision of a diagonal, estimated beside any other structure.

    Args:
        accumulator: of the estimate that is watched.
        parameters: the trainable ones.
        until: the relative error at which it is enough; None: never.
    """

    def __init__(self, accumulator: Accumulator, parameters: Mapping[str, nn.Parameter], until: float | None) -> None:
        self.precision = Precision()
        self._until = until
        self._diagonal = (
            accumulator if isinstance(accumulator, DiagonalAccumulator) else DiagonalAccumulator(parameters)
        )
        beside = [] if self._diagonal is accumulator else [self._diagonal]
        self.accumulators: list[Accumulator] = [accumulator, *beside]
        """What is to be fed."""

    def enough(self, n_examples: int) -> bool:
        """Look at the sums after a batch of so many examples (or groups); whether they are precise enough."""
        self.precision.add(self._diagonal.totals, n_examples)
        return self._until is not None and self.precision.relative_error() <= self._until

    def standard_error(self, like: Mapping[str, Tensor], required: bool) -> dict[str, Tensor] | None:
        """Of each entry of the diagonal, as the parameters are; if there are too few examples, None or an error."""
        errors = self.precision.standard_error()
        if errors is None and not required:
            return None
        if errors is None:
            raise InputError(
                f"a standard error needs {LEAST_GROUPS} groups of 16 examples or more, and there were "
                f"{self.precision.n_groups}: give more examples"
            )
        return {name: error.to(like[name]) for name, error in errors.items()}
