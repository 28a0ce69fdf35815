from pathlib import Path

import pytest
from omegaconf import OmegaConf

from cl_fisher.config import register_resolvers
from cl_fisher.config.resolver import cell, user_cache


@pytest.mark.parametrize(
    ("platform", "cache", "expected"),
    [
        ("linux", "/x", "/x/cl_fisher"),
        ("linux", "", "/home/me/.cache/cl_fisher"),
        ("darwin", "/x", "/home/me/Library/Caches/cl_fisher"),
    ],
)
def test_data_go_to_the_users_cache(monkeypatch, platform, cache, expected):
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setenv("XDG_CACHE_HOME", cache)
    monkeypatch.setattr(Path, "home", lambda: Path("/home/me"))
    assert user_cache() == expected


@pytest.mark.parametrize(
    ("number", "overrides", "expected"),
    [
        (
            3,
            ["n_tasks=2", "seed=0", "strategy.strength=1", "strategy=ewc"],
            "003_strategy=ewc,strategy.strength=1,seed=0,n_tasks=2",
        ),
        ("12", ["fisher/estimator=exact", "verbosity=0"], "012_fisher_estimator=exact"),
        (0, ["model.hidden=[400,400]", "+a.b=x y/.."], "000_+a.b=x_y_..,model.hidden=[400,400]"),
        (1234, [], "1234"),
    ],
)
def test_the_folder_of_a_cell(number, overrides, expected):
    assert cell(number, overrides, hidden=["verbosity"]) == expected


def test_a_long_name_is_cut():
    name = cell(7, [f"x{i}=1" for i in range(100, 200)])
    assert len(name) <= 120
    assert name.startswith("007_x100=1,x101=1")


def test_yaml_files_can_call_them():
    register_resolvers()
    register_resolvers()
    cfg = OmegaConf.create({"n": 2, "o": ["a=1"], "x": "${cl_fisher.cell:${n},${o}}", "y": "${cl_fisher.user_cache:}"})
    assert cfg.x == "002_a=1"
    assert cfg.y.endswith("cl_fisher")


@pytest.mark.parametrize(
    ("benchmark", "expected"),
    [({"seed": 1}, 5), ({"datasets": {}}, 5), ({"datasets": {"a": {"n": 1}, "b": {"n": 2}}}, 2), (None, 5)],
)
def test_a_sequence_is_as_long_as_its_data_sets_are_many(benchmark, expected):
    register_resolvers()
    assert OmegaConf.create({"benchmark": benchmark, "n_tasks": "${cl_fisher.length:5}"}).n_tasks == expected
