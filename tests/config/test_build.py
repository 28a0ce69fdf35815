import collections
import functools
import sys
from dataclasses import dataclass
from types import ModuleType

import pytest
from omegaconf import OmegaConf

from cl_fisher.config import build
from cl_fisher.error import InputError, RunError


class Thing:
    def __init__(self, size=1, other=None):
        if size == -1:
            raise InputError("size=-1 is out of range")
        if size == -2:
            raise RunError("gone")
        if size == -3:
            raise ValueError("own ValueError")
        self.size, self.other = size, other


@dataclass
class Example:
    rows: list[int]

    def __len__(self):
        return len(self.rows)


class Loose:
    def __init__(self, **options):
        self.options = options


@pytest.fixture(autouse=True, params=["cl_fisher.made_up", "foreign"])
def package(request, monkeypatch):
    module = ModuleType(request.param)
    module.Thing, module.Loose = Thing, Loose
    monkeypatch.setitem(sys.modules, request.param, module)
    if "." in request.param:
        monkeypatch.setattr("cl_fisher.made_up", module, raising=False)
    return request.param


def node(package, name="Thing", **options):
    return OmegaConf.create({"_target_": f"{package}.{name}", **options})


def test_options_and_arguments_reach_the_target(package):
    made = build(node(package, size=3), other=[1])
    assert (made.size, made.other) == (3, [1])
    made = build(node(package, size=3, _partial_=True))
    assert isinstance(made, functools.partial)
    assert build(node(package, "Loose", anything=1)).options == {"anything": 1}


def test_arguments_arrive_as_they_are_and_lists_as_lists(package):
    given = Example([1, 2])
    assert build(node(package), other=given).other is given
    assert type(build(node(package, other=[1, [2]])).other) is list
    assert build(node(package, _partial_=True), other=given).other is given
    assert build(node(package, _partial_=True))(other=given).other is given


def test_a_misspelt_option_is_one_line(package):
    with pytest.raises(InputError, match=rf"^{package}\.Thing has no option 'sise'; did you mean 'size'\?$"):
        build(node(package, sise=3, _partial_=True))


def test_a_misspelt_option_deep_inside(package):
    with pytest.raises(InputError, match="has no option 'sise'"):
        build(node(package, other={"_target_": f"{package}.Thing", "sise": 3}))


@pytest.mark.parametrize(("size", "error", "message"), [(-1, InputError, "size=-1 is out"), (-2, RunError, "gone")])
def test_what_the_target_says_itself_passes(package, size, error, message):
    with pytest.raises(error, match=f"^{message}"):
        build(node(package, size=size))
    with pytest.raises(error, match=f"^{message}"):
        build(node(package, other={"_target_": f"{package}.Thing", "size": size}))


def test_a_value_that_a_foreign_target_refuses_is_the_users_mistake(package):
    with pytest.raises(Exception, match="own ValueError") as caught:
        build(node(package, size=-3))
    assert isinstance(caught.value, InputError) is (package == "foreign")


@pytest.mark.parametrize("target", ["cl_fisher.absent.X", "surely_absent.X", "fractions.Absent"])
def test_a_target_that_does_not_exist(target, caplog):
    with pytest.raises(InputError, match=f"^there is no '{target}'") as caught:
        build({"_target_": target})
    assert "\n" not in str(caught.value)
    assert caplog.records == [], "Hydra has nothing to say beside it"


def test_targets_without_a_signature():
    assert build({"_target_": "builtins.dict"}, a=1) == {"a": 1}
    assert isinstance(build({"_target_": "collections.OrderedDict"}), collections.OrderedDict)
