"""Signatures are read from source files that would load torch if they were imported."""

import textwrap

import pytest

import cl_fisher
from cl_fisher.config import signature as module
from cl_fisher.config.annotation import allowed, problem
from cl_fisher.config.signature import signature, source_of

SOURCE = """
    from __future__ import annotations
    import surely_not_installed
    from abc import ABC
    from collections.abc import Sequence
    from dataclasses import dataclass, field
    from typing import ClassVar, Literal, Optional, Union, Annotated
    from cl_fisher.bounds import Count, NonNegative, UnitInterval
    from cl_fisher.other import Imported, Base as Renamed
    from elsewhere import Stranger

    Colour = Literal["red", "green"]

    class Plain:
        def __init__(self, strength: NonNegative = 1.0, *, count: Count | None = None, **more): ...

    class Nothing(ABC): ...
    class Child(Renamed): ...
    class Unknown(Stranger): ...

    @dataclass(frozen=True)
    class Data(Nothing):
        first: int
        made: list = field(init=False)
        shared: ClassVar[int] = 3
        second: str = "x"

    def function(
        number: int, real: float, flag: bool, text: str, colour: Colour, quoted: "Count", both: str | Stranger,
        widths: Sequence[Count], pair: tuple[float, float], many: tuple[int, ...], either: Optional[int],
        union: Union[int, str], noted: Annotated[int, "a note"], loose, far: Imported, null: None,
        listed: Literal["auto", True, False] | None, mixed: str | Sequence[int], weird: Stranger[int],
    ): ...
"""
OTHER = """
    from typing import Literal
    Imported = Literal["a", "b"]
    class Base:
        def __init__(self, inherited: int): ...
"""


@pytest.fixture(autouse=True)
def _package(tmp_path, monkeypatch):
    (tmp_path / "made.py").write_text(textwrap.dedent(SOURCE))
    (tmp_path / "other.py").write_text(textwrap.dedent(OTHER))
    monkeypatch.setattr(cl_fisher, "__file__", str(tmp_path / "__init__.py"))
    module.source_of.cache_clear()
    yield
    module.source_of.cache_clear()


@pytest.mark.parametrize(
    ("name", "parameters", "is_open"),
    [
        ("Plain", ["strength", "count"], True),
        ("Nothing", [], False),
        ("Child", ["inherited"], False),
        ("Data", ["first", "second"], False),
        ("Renamed", ["inherited"], False),
    ],
)
def test_the_parameters_of(name, parameters, is_open):
    found = signature(f"cl_fisher.made.{name}")
    assert list(found.parameters) == parameters
    assert found.open is is_open


@pytest.mark.parametrize(
    "target", ["cl_fisher.made.Unknown", "cl_fisher.made.Absent", "cl_fisher.absent.X", "torch.X", "x"]
)
def test_what_cannot_be_read_is_left_alone(target):
    assert signature(target) is None


def test_targets_outside_the_package_have_stand_ins(monkeypatch):
    monkeypatch.undo()
    module.source_of.cache_clear()
    for target, option in (("lightning.pytorch.Trainer", "precision"), ("torch.optim.SGD", "lr")):
        found = signature(target)
        assert option in found.parameters
        assert found.open


GOOD = [
    ("number", 3), ("real", 3), ("real", 0.5), ("flag", False), ("text", "x"), ("colour", "red"), ("quoted", 1),
    ("both", 3), ("widths", []), ("widths", [1, 2]), ("pair", [0.9, 1]), ("many", [1, 2, 3]), ("either", None),
    ("either", 1), ("union", "x"), ("noted", 3), ("loose", object()), ("far", "a"), ("null", None), ("listed", True),
    ("listed", None), ("weird", 3), ("mixed", "x"), ("mixed", [1]),
]  # fmt: skip
BAD = [
    ("number", 3.0, "a whole number"), ("number", True, "a whole number"), ("number", None, "number=null"),
    ("real", "x", "a number"), ("real", True, "a number"), ("flag", 1, "true or false"),
    ("flag", "no", "true or false"),
    ("text", 3, "text is wanted"), ("colour", "rad", "did you mean 'red'"), ("quoted", 0, "at least 1"),
    ("quoted", None, "quoted=null"), ("widths", 400, "widths=[1,2]"), ("widths", [1, 0], "at least 1"),
    ("pair", 3, "2 values"), ("pair", [0.9], "2 values"), ("pair", [0.9, "x"], "a number"),
    ("many", ["x"], "many=['x']: a list of whole numbers"),
    ("mixed", 3, "text is wanted"), ("mixed", [1, 2.5], "mixed=[1, 2.5]: a list of whole numbers"),
    ("either", "x", "a whole number"), ("union", 0.5, "a whole number"), ("noted", "x", "a whole number"),
    ("far", "c", "one of a, b"), ("null", 3, "null is wanted"), ("listed", 1, "one of auto, true, false"),
]  # fmt: skip


def _problem(name, value):
    parameter = signature("cl_fisher.made.function").parameters[name]
    return problem(name, value, parameter.annotation, parameter.source)


@pytest.mark.parametrize(("name", "value"), GOOD)
def test_values_that_fit(name, value):
    assert _problem(name, value) is None


@pytest.mark.parametrize(("name", "value", "hint"), BAD)
def test_values_that_do_not_fit(name, value, hint):
    assert hint in _problem(name, value)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("listed", ["auto", "true", "false", "null"]),
        ("colour", ["red", "green"]),
        ("flag", ["true", "false"]),
        ("number", []),
        ("both", []),
    ],
)
def test_values_that_are_listed(name, values):
    parameter = signature("cl_fisher.made.function").parameters[name]
    assert allowed(parameter.annotation, parameter.source) == values


def test_a_file_is_read_once():
    assert source_of("cl_fisher.made") is source_of("cl_fisher.made")
