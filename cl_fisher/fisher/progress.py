"""How far an estimate has come, on standard error."""

import sys
import time
from collections.abc import Callable

Progress = Callable[[int, int | None], None]
"""Called with the number of examples (or groups) done and, if it is known, how many there will be."""


class Bar:
    """One line that is rewritten at most five times a second; a new line at the end."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._shown = 0.0

    def __call__(self, done: int, total: int | None) -> None:
        """Show `done` of `total` examples."""
        now = time.monotonic()
        finished = total is not None and done >= total
        if now - self._shown < 0.2 and not finished:
            return
        self._shown = now
        rate = done / max(1e-9, now - self._start)
        if total is None:
            text = f"Fisher: {done:,} examples, {rate:,.0f}/s"
        else:
            filled = min(30, 30 * done // max(1, total))
            bar = "#" * filled + "-" * (30 - filled)
            text = f"Fisher: [{bar}] {done:,}/{total:,} examples, {rate:,.0f}/s"
        sys.stderr.write("\r" + text.ljust(79) + ("\n" if finished else ""))
        sys.stderr.flush()
