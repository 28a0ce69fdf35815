"""The examples of an estimate, as often as they are asked for."""

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from typing import Any

from cl_fisher.error import InputError
from cl_fisher.fisher.apart import Apart
from cl_fisher.fisher.batches import Batch, examples_in, pieces, read, regrouped
from cl_fisher.fisher.importance import Importance
from cl_fisher.fisher.one_pass import Pass, Question
from cl_fisher.fisher.processes import Processes
from cl_fisher.fisher.progress import Progress


class Stream:
    """Which examples are looked at, and what the sums over them are divided by.

    Args:
        batches: (inputs, targets) or (inputs, targets, index).
        question: whose Fisher is meant.
        samples: how many; all if None.
        sampling: uniform or importance.
        processes: among which the examples are dealt out.
        report: is told how far a pass has come.
    """

    def __init__(
        self,
        batches: Iterable[Sequence[Any]],
        question: Question,
        samples: int | None,
        sampling: str,
        processes: Processes,
        report: Progress,
    ) -> None:
        self._batches, self._question, self._processes, self._report = batches, question, processes, report
        self._samples = samples if sampling == "uniform" else None
        self._readings = 0
        self._apart = Apart(question.model)
        self.n_examples = 0.0
        """Examples (or groups) that a sum is over, in all processes."""
        self.n_looked_at = 0
        self.first: Sequence[Any] | None = None
        """The first batch, as it came."""
        self._importance: Importance | None = None
        if sampling == "importance":
            assert samples is not None
            self._importance = Importance(question, self._read(), samples, processes)

    def feed(self, work: Pass, enough: Callable[[int], bool] | None) -> None:
        """One pass over the data.

        `enough` is asked after each batch, cut to eighths so that it is asked often enough, with the number of examples
        (or groups) in it; if it says so, the pass ends there, and later passes do too.
        """
        total = self._total()
        looked_at, counted = 0, 0
        for batch in self._chosen(finely=enough is not None):
            n = work.add(batch)
            counted += n
            looked_at += len(batch)
            self._report(looked_at, total)
            if enough is not None and enough(n):
                self._samples = looked_at
                break
        if total is None or looked_at < total:
            self._report(looked_at, looked_at)
        shares = self._processes.gathered(looked_at)
        if 0 in shares and sum(shares) > 0:
            raise InputError(f"process {shares.index(0)} of {len(shares)} has no examples: each needs a share of them")
        self.n_looked_at = sum(shares)
        self.n_examples = self._processes.total(counted)
        if self.n_examples == 0:
            raise InputError("the Fisher was asked for over no examples at all: `batches` is empty or used up")
        if self._importance is not None:
            self.n_examples = self._importance.n_examples

    def _chosen(self, finely: bool) -> Iterator[Batch]:
        read_now = self._read()
        if self._importance is not None:
            return self._importance.chosen(read_now)
        if (size := self._question.estimator.batch) is not None:
            return regrouped(read_now, size)
        if finely:
            return (piece for batch in read_now for piece in pieces(batch, max(16, -(-len(batch) // 8))))
        return read_now

    @property
    def readable(self) -> bool:
        """Whether the examples can be read once more."""
        return not isinstance(self._batches, Iterator)

    def _read(self) -> Iterator[Batch]:
        self._readings += 1
        if self._readings > 1 and not self.readable:
            raise InputError(
                "the examples are needed twice (importance sampling, ekfac), but `batches` is an iterator that is used "
                "up by one reading: give a list or a DataLoader"
            )
        like = next(iter(self._question.trainable.values()))
        return read(self._remembered(), like, self._samples, self._processes.rank, self._processes.count, self._apart)

    def _remembered(self) -> Iterator[Sequence[Any]]:
        for batch in self._batches:
            if self.first is None:
                self.first = batch
            yield batch

    def _total(self) -> int | None:
        """How many examples there will be, if that can be told."""
        dataset = getattr(self._batches, "dataset", None)
        n = len(dataset) if isinstance(dataset, Sized) else None
        if isinstance(self._batches, Sequence):
            n = sum(map(examples_in, self._batches))
        return n if n is None or self._samples is None else min(n, self._samples)
