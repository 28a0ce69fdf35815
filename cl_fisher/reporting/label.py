"""The label of a group in several lines, setting by setting."""

import re
import textwrap

_PARTS = re.compile("(?<=,) | (?=\N{MINUS SIGN})")
"""Between the settings of a label, and before what is subtracted."""


def pieces(label: str) -> list[str]:
    """Where a label may be broken: after ", ", after "=", before a minus."""
    return [piece for part in _PARTS.split(label) for piece in re.split(r"(?<==)(?=.)", part)]


def lines(label: str, room: int) -> list[str]:
    """The label in lines of at most `room` characters, setting by setting, if its longest piece fits."""
    found = [""]
    for part in _PARTS.split(label):
        joined = f"{found[-1]} {part}".lstrip()
        if len(joined) <= room:
            found[-1] = joined
            continue
        for piece in [part] if len(part) <= room else pieces(part):
            same_setting = piece is not part and found[-1].endswith("=")
            if same_setting and len(found[-1]) + len(piece) <= room:
                found[-1] += piece
            else:
                found.append(piece)
    return [line for line in found if line]


def wrapped(label: str, room: int) -> str:
    """The same as one text; a piece that does not fit is broken where it must be."""
    return "\n".join(short for line in lines(label, room) for short in textwrap.wrap(line, room))
