"""The nearest right word to a wrong one."""

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, choices: Iterable[str], prefix: str = "") -> str:
    """`; did you mean 'PREFIXchoice'?`, or nothing where no choice comes near."""
    near = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.6)
    return f"; did you mean '{prefix}{near[0]}'?" if near else ""
