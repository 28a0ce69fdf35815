"""Number types with bounds, declared once at the parameter that they bound.

    @checked
    def __init__(self, strength: NonNegative = 100.0): ...

raises `InputError` for strength=-1, in Python and, because the command line reads the same annotation from the source
file, before anything heavy is imported there (`cl_fisher.config`).
"""

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from cl_fisher.error import InputError

_HUGE = 1e18  # a bound that no text needs to mention until it is crossed


@dataclass(frozen=True)
class Bound:
    """Smallest and largest allowed value; `open_low` and `open_high` leave the ends themselves out."""

    low: float
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False
    whole: bool = False

    def check(self, name: str, value: Any) -> None:
        """Raise `InputError` naming `name` unless `value` is a number within the bound."""
        if isinstance(value, bool) or not isinstance(value, int if self.whole else (int, float)):
            raise InputError(f"{name}={value}: {'a whole number' if self.whole else 'a number'} is wanted, {self}")
        if not math.isfinite(value):
            raise InputError(f"{name}={value}: a finite number is wanted, {self}")
        below = value <= self.low if self.open_low else value < self.low
        above = value >= self.high if self.open_high else value > self.high
        if below or above:
            limit = f"at most {self.high:g}" if above and self.high > _HUGE else self
            raise InputError(f"{name}={value} is out of range: it must be {limit}")

    def __str__(self) -> str:
        low = f"{'greater than' if self.open_low else 'at least'} {self.low:g}"
        if self.high > _HUGE:
            return low
        return f"{low} and {'less than' if self.open_high else 'at most'} {self.high:g}"


NonNegative = Annotated[float, Bound(0, 1e30)]  # float32 ends at 3e38
Positive = Annotated[float, Bound(0, open_low=True)]
Fraction = Annotated[float, Bound(0, 1, open_high=True)]
UnitInterval = Annotated[float, Bound(0, 1)]
Count = Annotated[int, Bound(1, whole=True)]
Index = Annotated[int, Bound(0, 2**63 - 1, whole=True)]

BOUNDS: dict[str, Bound] = {
    name: get_args(globals()[name])[1]
    for name in ("NonNegative", "Positive", "Fraction", "UnitInterval", "Count", "Index")
}


def check_choice(name: str, value: Any, choices: Any) -> None:
    """Raise `InputError` unless `value` is one of a `Literal`'s."""
    known = get_args(choices)
    if value not in known:
        raise InputError(f"{name}={value} is unknown: it must be one of {', '.join(map(str, known))}")


F = TypeVar("F", bound=Callable[..., Any])


def checked(function: F) -> F:
    """Check the bounds that the annotations of `function` declare at every call."""
    signature = inspect.signature(function, eval_str=True)

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            _check(signature.parameters[name].annotation, name, value)
        return function(*args, **kwargs)

    return wrapper  # type: ignore[return-value]


def _check(annotation: Any, name: str, value: Any) -> None:
    """Check a value against the bounds within an annotation such as `Count | None` or `Sequence[Count]`."""
    for part in getattr(annotation, "__metadata__", ()):
        if isinstance(part, Bound):
            part.check(name, value)
    inner = get_args(annotation)
    if get_origin(annotation) is Sequence:
        for element in value if isinstance(value, (list, tuple)) else ():
            _check(inner[0], name, element)
    elif get_origin(annotation) in (Union, UnionType):
        for choice in inner if value is not None else ():
            _check(choice, name, value)
