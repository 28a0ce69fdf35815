"""Time of methods as multiples of a plain pass, all in one process, in turns."""

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from fisher_cost.methods import Method, NotAvailable, plain
from torch import Tensor, nn

BUDGET = 90.0
"""Seconds that one run of a method should take at most; slower ones see fewer examples."""


@dataclass
class Timing:
    """What was measured for one method."""

    size: int = 0
    examples: int = 0
    ratios: list[float] = field(default_factory=list)
    reason: str = ""
    """Why there is nothing."""

    def quartiles(self) -> tuple[float, float, float]:
        if len(self.ratios) < 2:
            return (self.ratios * 3)[0], self.ratios[0], self.ratios[0]
        low, middle, high = statistics.quantiles(self.ratios, n=4, method="inclusive")
        return low, middle, high


def reason(error: Exception) -> str:
    """The first line of what went wrong."""
    text = str(error).strip().splitlines() or [""]
    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        return "out of memory"
    if isinstance(error, ImportError):
        return f"not installed: {error.name}"
    return text[0] if isinstance(error, NotAvailable) else f"{type(error).__name__}: {text[0]}"


class Clock:
    """Seconds of this process per example: what a clock on the wall says of one thread on an idle machine."""

    def __init__(self, model: nn.Module, inputs: Tensor, targets: Tensor, sizes: tuple[int, ...]) -> None:
        self.model, self.inputs, self.targets, self.sizes = model, inputs, targets, sizes
        self._plain = self._best(plain, sizes)[0]

    def measure(self, methods: list[Method], rounds: int, say: Callable[[str], None]) -> dict[str, Timing]:
        """Rounds over the methods, each run between two plain passes."""
        timings = {}
        for method in methods:
            say(f"{method.name}: which batch size")
            timings[method.name] = self._prepared(method)
        n = len(self.targets)
        for turn in range(rounds):
            before = self._per_example(plain, n, self._plain)
            for method in methods:
                timing = timings[method.name]
                if timing.reason:
                    continue
                say(f"{method.name}: round {turn + 1} of {rounds}")
                own = self._per_example(method.run, timing.examples, timing.size)
                after = self._per_example(plain, n, self._plain)
                timing.ratios.append(2 * own / (before + after))
                before = after
        return timings

    def _prepared(self, method: Method) -> Timing:
        try:
            size, seconds = self._best(method.run, method.sizes or self.sizes)
        except Exception as error:
            return Timing(reason=reason(error))
        affordable = int(BUDGET / seconds) // size * size
        return Timing(size, min(len(self.targets), max(size, affordable)))

    def _best(self, run: Callable, sizes: tuple[int, ...]) -> tuple[int, float]:
        """The batch size with the least time per example, and that time; sizes that do not fit are passed over."""
        found, failure = {}, None
        for size in sizes:
            if size > len(self.targets):
                continue
            try:
                run(self.model, self.inputs[:2], self.targets[:2], 2)  # whatever is done once
                found[size] = self._per_example(run, min(len(self.targets), max(sizes)), size)
            except Exception as error:
                failure = error
                if reason(error) != "out of memory":
                    break
            if found and found[min(found, key=found.get)] < 0.7 * found.get(size, 0):
                break  # it only gets worse
        if not found:
            raise failure or NotAvailable("no batch size fits the data")
        best = min(found, key=found.get)
        return best, found[best]

    def _per_example(self, run: Callable, n: int, size: int) -> float:
        gc.collect()
        start = time.process_time()
        run(self.model, self.inputs[:n], self.targets[:n], size)
        return (time.process_time() - start) / n
