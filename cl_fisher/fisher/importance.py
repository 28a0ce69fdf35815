"""Which examples to look at: those about which the network is uncertain, drawn so that the estimate stays unbiased."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from cl_fisher.error import InputError
from cl_fisher.fisher.batches import Batch, regrouped
from cl_fisher.fisher.draws import Draws
from cl_fisher.fisher.one_pass import Question
from cl_fisher.fisher.processes import Processes

UNIFORM_SHARE = 0.1
"""Of the draws: bounds every weight by ten times what uniform draws give, at no cost worth speaking of."""
_BATCH = 128
_SEED = 0x5A3D17E  # of the one number that places the draws, apart from what the estimator draws


class Importance:
    """n draws with replacement, q_i proportional to the size of example i's output columns, weights 1 / (n q_i).

    sum_i m_i F_i / (n q_i N), m_i the number of times that i is drawn, has the mean (1/N) sum_i F_i for any q > 0; its
    variance is small where q_i follows |F_i|. The size |S_i|^2, for the categorical likelihood the trace
    1 - sum_j p_j^2 of the output Fisher, costs one forward pass. Draws are systematic: n equally spaced points, moved
    by one random number, on the cumulated q of the examples in the order of their index; so the choice depends neither
    on batches nor on processes.

    Args:
        question: whose columns are meant.
        batches: all examples; they are read twice.
        samples: n.
        processes: among which the examples are dealt out.
    """

    def __init__(self, question: Question, batches: Iterable[Batch], samples: int, processes: Processes) -> None:
        self._question = question
        own = [(batch.index, _sizes(question, batch)) for batch in batches]
        parts = [part for of_process in processes.gathered(own) for part in of_process]
        if not parts:
            raise InputError("the Fisher was asked for over no examples at all: `batches` is empty or used up")
        index, sizes = torch.cat([i for i, _ in parts]), torch.cat([s for _, s in parts])
        order = index.argsort(stable=True)
        self.n_examples = len(index)
        if len(index.unique()) < self.n_examples:
            raise InputError("fisher.sampling=importance: two examples have the same index")
        total = float(sizes.sum())
        even = torch.full_like(sizes, 1 / self.n_examples)
        share = (1 - UNIFORM_SHARE) * sizes / total + UNIFORM_SHARE * even if total > 0 else even
        ends = share[order].cumsum(0) * samples
        offset = Draws(question.seed + _SEED, torch.zeros(1, dtype=torch.int64)).uniform(1).item()
        counts = (ends - offset).ceil().clamp_(min=0).diff(prepend=torch.zeros(1, dtype=ends.dtype))
        weights = counts / (samples * share[order])
        chosen = counts > 0
        self._size = dict(zip(index[order][chosen].tolist(), sizes[order][chosen].tolist(), strict=True))
        self._weight = dict(zip(index[order][chosen].tolist(), weights[chosen].tolist(), strict=True))

    def chosen(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The examples that were drawn, with their weights, gathered into batches.

        Raises:
            InputError: the examples are not those of the first reading.
        """
        return regrouped((part for batch in batches if len(part := self._part(batch))), _BATCH)

    def _part(self, batch: Batch) -> Batch:
        rows = torch.tensor([i for i, n in enumerate(batch.index.tolist()) if n in self._weight], dtype=torch.int64)
        part = batch.part(rows.to(batch.targets.device))
        if len(part) == 0:
            return part
        expected = torch.tensor([self._size[n] for n in part.index.tolist()], dtype=torch.float64)
        if not torch.allclose(_sizes(self._question, part), expected, rtol=1e-2, atol=1e-6 * float(expected.max())):
            raise InputError(
                "fisher.sampling=importance reads the batches twice, and the second time examples came in another "
                "order: do not shuffle, or give batches (inputs, targets, index)"
            )
        weights = torch.tensor([self._weight[n] for n in part.index.tolist()], dtype=torch.float32)
        return Batch(part.inputs, part.apart, part.targets, part.index, weights.to(part.targets.device))


@torch.no_grad()
def _sizes(question: Question, batch: Batch) -> Tensor:
    """|S_i|^2 of each example, float64 [N]."""
    return question.sizes(question.model(batch.copied_inputs()), batch).double().cpu()
