"""Which inputs have a row per example; all others are every example's."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import keystr, tree_flatten, tree_flatten_with_path, tree_unflatten

from cl_fisher.error import InputError
from cl_fisher.fisher.batches import by_length
from cl_fisher.fisher.determinism import same


class Apart:
    """Decides by length at the first batch of more than one example, and stays with that.

    A tensor that all examples share may be as long as that batch by chance. Where several are of its length, half of
    the examples must have the outputs that they have in the whole; if not, the one that is in the way is shared.

    Args:
        model: in evaluation mode, on the inputs' device.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._form: Any = None
        self._apart: list[bool] = []

    def __call__(self, inputs: Any, n: int) -> Any:
        """As `by_length`.

        Raises:
            InputError: an input with a row per example before has another length than this batch of `n` examples.
        """
        lengths = tree_flatten(by_length(inputs, n))[0]
        leaves, form = tree_flatten(inputs)
        if n > 1 and form != self._form:
            self._form, self._apart = form, self._settled(leaves, form, lengths)
        if form != self._form:
            return tree_unflatten(lengths, form)
        for (path, leaf), before, now in zip(tree_flatten_with_path(inputs)[0], self._apart, lengths, strict=True):
            if before and not now:
                raise InputError(
                    f"the input{keystr(path)} has {len(leaf)} rows in a batch of {n} examples, but had one for each "
                    "example before: if all examples share it, no batch may have as many examples as it has rows"
                )
        return tree_unflatten(self._apart, form)

    def _settled(self, leaves: Sequence[Any], form: Any, lengths: list[bool]) -> list[bool]:
        """The first choice that halves agree with; by length where none does, so that others tell what is wrong."""
        if sum(lengths) < 2:
            return lengths
        without_one = [[*lengths[:i], False, *lengths[i + 1 :]] for i, cut in enumerate(lengths) if cut]
        whole = self._model(tree_unflatten(_copied(leaves), form))
        half = (len(next(t for t, cut in zip(leaves, lengths, strict=True) if cut)) + 1) // 2
        for choice in (lengths, *without_one):
            some = [t[:half] if cut else t for t, cut in zip(leaves, choice, strict=True)]
            try:
                outputs = self._model(tree_unflatten(_copied(some), form))
            except (RuntimeError, ValueError, TypeError, IndexError, AssertionError):
                continue
            if isinstance(whole, Tensor) and same(outputs, whole[:half]):
                return choice
        return lengths


def _copied(leaves: Sequence[Any]) -> list[Any]:
    return [t.clone() if isinstance(t, Tensor) else t for t in leaves]
