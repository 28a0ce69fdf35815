"""What a warning looks like on the command line."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def brief_warnings() -> Iterator[None]:
    """A `UserWarning` is one line on stderr, without the place in the code, and each is said once."""
    before, said = warnings.formatwarning, set[str]()

    def formatted(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
    ) -> str:
        if category is not UserWarning:
            return before(message, category, filename, lineno, line)
        text = f"cl-fisher: warning: {' '.join(str(message).split())}\n"
        again = text in said
        said.add(text)
        return "" if again else text

    warnings.formatwarning = formatted
    try:
        yield
    finally:
        warnings.formatwarning = before
