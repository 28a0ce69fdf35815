"""Bounds at parameters."""

from collections.abc import Sequence

import pytest

from cl_fisher.bounds import Count, Fraction, Index, NonNegative, Positive, UnitInterval, checked
from cl_fisher.error import InputError


@checked
def function(
    a: NonNegative = 0.0,
    b: Count | None = None,
    c: Fraction = 0.0,
    d: Sequence[Count] = (),
    e: Positive = 1.0,
    f: UnitInterval = 1.0,
    g: Index = 0,
) -> tuple:
    return a, b, c, d, e, f, g


@pytest.mark.parametrize(
    "good",
    [
        {"a": 0},
        {"a": 2.5},
        {"b": None},
        {"b": 3},
        {"c": 0.99},
        {"d": [1, 2]},
        {"d": ()},
        {"f": 0},
        {"f": 1.0},
        {"g": 0},
    ],
)
def test_within(good):
    assert next(iter(good.values())) in function(**good)


@pytest.mark.parametrize(
    "bad",
    [
        {"a": -1}, {"a": float("nan")}, {"a": float("inf")}, {"a": "1"}, {"a": True}, {"a": None}, {"b": 0}, {"b": 1.5},
        {"c": 1.0},
        {"d": [1, 0]}, {"d": ["a"]}, {"e": 0}, {"f": 1.01}, {"g": -1},
    ],
    ids=str,
)  # fmt: skip
def test_outside(bad):
    with pytest.raises(InputError, match=f"^{next(iter(bad))}="):
        function(**bad)


def test_the_message_says_what_would_be_right():
    with pytest.raises(InputError, match=r"c=1\.0 is out of range: it must be at least 0 and less than 1"):
        function(c=1.0)
