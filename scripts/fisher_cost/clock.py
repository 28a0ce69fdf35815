"""Time of methods as multiples of a plain pass, all in one process, in turns."""

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn

from fisher_cost.methods import Method, UnavailableError, plain

BUDGET, TOTAL = 30.0, 120.0
"""Seconds that one run of a method, and all of its runs, should take: slower ones see fewer examples and rounds."""
TRIES, ENOUGH = 5, 1.0
"""The most runs by which a batch size is judged, and the seconds after which there is no further one."""


@dataclass
class Timing:
    """What was measured for one method."""

    size: int = 0
    examples: int = 0
    ratios: list[float] = field(default_factory=list)
    spent: float = 0.0
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
    return text[0] if isinstance(error, UnavailableError) else f"{type(error).__name__}: {text[0]}".removesuffix(": ")


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
                if timing.reason or (turn >= 2 and timing.spent > TOTAL):
                    continue
                try:
                    own = self._per_example(method.run, timing.examples, timing.size)
                except Exception as error:
                    timing.reason = reason(error)
                    continue
                after = self._per_example(plain, n, self._plain)
                timing.ratios.append(2 * own / (before + after))
                say(f"{method.name}: {timing.ratios[-1]:.2f} plain passes (round {turn + 1} of {rounds})")
                timing.spent += own * timing.examples
                before = after
        return timings

    def _prepared(self, method: Method) -> Timing:
        sizes = method.sizes or self.sizes
        if len(sizes) == 1 and sizes[0] >= len(self.targets):  # one batch: nothing to choose
            return Timing(len(self.targets), len(self.targets))
        try:
            size, seconds = self._best(method.run, sizes)
        except Exception as error:
            return Timing(reason=reason(error))
        affordable = int(BUDGET / seconds) // size * size
        return Timing(size, min(len(self.targets), max(size, affordable)))

    def _best(self, run: Callable, sizes: tuple[int, ...]) -> tuple[int, float]:
        """The batch size with the least time per example, and that time; sizes that do not fit are passed over."""
        found: dict[int, float] = {}
        fitting = [size for size in sizes if size <= len(self.targets)]
        try:
            run(self.model, self.inputs[:2], self.targets[:2], 2)  # whatever is done once
            for size in fitting:
                found[size] = self._fastest(run, min(len(self.targets), max(fitting)), size)
                if found[size] > 1.4 * min(found.values()):
                    break  # it only gets worse
        except Exception as error:
            if not found or reason(error) != "out of memory":
                raise
        best = min(found, key=lambda size: found[size])
        return best, found[best]

    def _fastest(self, run: Callable, n: int, size: int) -> float:
        """Of some short runs, so that noise does not choose; of one, if it is long."""
        found: list[float] = []
        while len(found) < TRIES and sum(found) * n < ENOUGH:
            found.append(self._per_example(run, n, size))
        return min(found)

    def _per_example(self, run: Callable, n: int, size: int) -> float:
        gc.collect()
        start = time.process_time()
        run(self.model, self.inputs[:n], self.targets[:n], size)
        return (time.process_time() - start) / n
