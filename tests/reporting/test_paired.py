"""Paired tests against scipy and the t table, Holm against its definition, ranks by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy import stats

from cl_fisher.reporting import paired
from cl_fisher.reporting.aggregate import Group
from cl_fisher.reporting.glossary import METRICS
from cl_fisher.reporting.read import Run
from cl_fisher.reporting.sheet import ranks

ACCURACY, _, FORGETTING, *_ = METRICS


def group(label, values, key="avg_accuracy", strategy=None):
    """A group with these values, by seed."""
    runs = tuple(
        Run(Path(f"{label}{seed}"), (), {"status": "finished", "seed": seed, key: value})
        for seed, value in values.items()
    )
    return Group(label, strategy or label, runs, runs)


def draws(*labels, n=6, seed=0):
    rng = np.random.default_rng(seed)
    return [group(label, dict(enumerate(rng.uniform(0.5, 0.9, n) + 0.05 * i))) for i, label in enumerate(labels)]


@pytest.mark.parametrize("n", [2, 3, 10])
def test_against_scipy_and_the_t_table(n):
    a, b = draws("a", "b", n=n)
    (pair,) = paired.pairs([a, b], ACCURACY)
    x, y = (np.array(list(g.by_seed("avg_accuracy").values())) for g in (a, b))
    d = x - y
    assert pair.n == n
    assert pair.difference == pytest.approx(d.mean())
    assert pair.half_width == pytest.approx(stats.t.ppf(0.975, n - 1) * d.std(ddof=1) / n**0.5)
    assert pair.p == pytest.approx(stats.ttest_rel(x, y).pvalue)
    assert pair.p == pytest.approx(stats.ttest_1samp(d, 0).pvalue)
    assert pair.p_holm == pair.p


def test_seeds_are_matched_by_name_and_not_by_place():
    a = group("a", {0: 0.5, 1: 0.7, 2: 0.9})
    b = group("b", {2: 0.8, 1: 0.65, 0: 0.4, 7: 0.1})
    (pair,) = paired.pairs([a, b], ACCURACY)
    assert pair.n == 3
    assert pair.difference == pytest.approx((0.1 + 0.05 + 0.1) / 3)


@pytest.mark.parametrize("seeds", [{}, {0: 0.5}, {5: 0.5, 6: 0.6}])
def test_fewer_than_two_seeds_in_common_are_refused(seeds):
    found = paired.pairs([group("a", {0: 0.5, 1: 0.6}), group("b", seeds)], ACCURACY)
    assert [(p.difference, p.half_width, p.p, p.p_holm) for p in found] == [(None,) * 4] * bool(seeds)


@pytest.mark.parametrize(("shift", "p"), [(0.0, 1.0), (0.1, None)])
def test_differences_that_do_not_vary_have_no_test(shift, p):
    values = {0: 0.5, 1: 0.6, 2: 0.73}
    (pair,) = paired.pairs([group("a", {s: v + shift for s, v in values.items()}), group("b", values)], ACCURACY)
    assert (pair.half_width, pair.p) == (0.0, p)
    assert pair.difference == pytest.approx(shift)


def test_holm_by_hand():
    assert paired.holm([0.01, 0.04, 0.03, None]) == [
        pytest.approx(0.03),
        pytest.approx(0.06),
        pytest.approx(0.06),
        None,
    ]
    assert paired.holm([0.9, 0.8]) == [1.0, 1.0]
    assert paired.holm([]) == []


@pytest.mark.parametrize("seed", range(5))
def test_holm_rejects_what_its_definition_rejects(seed):
    p = np.random.default_rng(seed).uniform(0, 0.1, 7)
    corrected = np.array(paired.holm(list(p)))
    for level in (0.01, 0.05, 0.2):
        rejected = set()
        for k, i in enumerate(np.argsort(p)):
            if p[i] > level / (len(p) - k):
                break
            rejected.add(int(i))
        assert set(np.flatnonzero(corrected <= level)) == rejected


def test_every_two_groups_are_compared_once_and_corrected_together():
    found = paired.pairs(draws("a", "b", "c"), ACCURACY)
    assert [(p.first, p.second) for p in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [p.p_holm for p in found] == paired.holm([p.p for p in found])


def test_mean_ranks_by_hand():
    groups = [group("a", {0: 0.9, 1: 0.5}), group("b", {0: 0.8, 1: 0.6, 2: 0.0}), group("c", {0: 0.7, 1: 0.6})]
    assert paired.mean_ranks(groups, ACCURACY) == {"a": 2.0, "b": 1.75, "c": 2.25}
    lower = [group(g.label, g.by_seed("avg_accuracy"), "forgetting") for g in groups]
    assert paired.mean_ranks(lower, FORGETTING) == {"a": 2.0, "b": 2.25, "c": 1.75}
    assert paired.mean_ranks([groups[0], group("d", {0: 1.0})], ACCURACY) == {}


def test_bounds_do_not_compete_unless_they_are_among_themselves():
    groups = [group("a", {0: 0.5, 1: 0.6}), group("b", {0: 0.6, 1: 0.5}), group("joint", {0: 1.0, 1: 1.0})]
    assert paired.best(groups, ACCURACY) == {"a", "b"}
    assert set(paired.mean_ranks(groups, ACCURACY)) == {"a", "b"}
    assert paired.best(groups[1:], ACCURACY) == {"joint"}
    assert paired.best(groups[:1], ACCURACY) == set()


def test_lower_forgetting_is_better():
    groups = [group("a", {0: 0.5}, "forgetting"), group("b", {0: 0.1}, "forgetting")]
    assert paired.best(groups, FORGETTING) == {"b"}


@pytest.mark.parametrize("key", ["dataset", "scenario", "n_tasks", "benchmark.order", "dataset@benchmark.datasets.a"])
def test_only_what_learns_the_same_tasks_is_compared(key):
    """The hard tasks have a best of their own, and no p-value is corrected for pairs that mean nothing."""
    levels = {"easy": (0.9, 0.8), "hard": (0.4, 0.3)}
    groups = [
        replace(group(f"{name}, {tasks}", {0: level, 1: level + gap}, strategy=name), settings={key: tasks})
        for tasks, values in levels.items()
        for name, level, gap in zip(("a", "b"), values, (0.01, 0.02), strict=True)
    ]
    found = paired.pairs(groups, ACCURACY)
    assert [(p.first, p.second) for p in found] == [("a, easy", "b, easy"), ("a, hard", "b, hard")]
    assert paired.best(groups, ACCURACY) == {"a, easy", "a, hard"}
    assert paired.mean_ranks(groups, ACCURACY) == {"a, easy": 1, "b, easy": 2, "a, hard": 1, "b, hard": 2}
    assert ranks(groups).bold == {(0, 1), (2, 1)}
    assert ranks(groups).title.endswith("; only settings that learn the same tasks are compared")


TASKS = {"benchmark": {"angles": "even"}, "dataset": {"name": "MNIST", "data_dir": "/a"}, "n_tasks": 5}


def configured(tmp_path, name, config, settings=None, seeds=(0, 1)):
    """A group whose runs have this resolved configuration, and a seed."""
    runs = []
    for seed in seeds:
        folder = tmp_path / f"{name}{seed}"
        folder.mkdir()
        (folder / "config.yaml").write_text(yaml.safe_dump(config | {"seed": seed, "strategy": {"seed": seed}}))
        metrics = {"status": "finished", "seed": seed, "avg_accuracy": 0.5 + 0.1 * seed * len(name)}
        runs.append(Run(folder, (), metrics))
    return Group(name, name, tuple(runs), tuple(runs), settings or {})


@pytest.mark.parametrize("typed", [{}, {"n_tasks": "5"}])
@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({}, 1),
        ({"epochs": 3}, 1),
        ({"dataset": {"name": "MNIST", "data_dir": "/b"}}, 1),
        ({"dataset": {"name": "KMNIST", "data_dir": "/a"}}, 2),
        ({"benchmark": {"angles": "random"}}, 2),
        ({"n_tasks": 6}, 2),
        ({"label_noise": 0.5}, 2),
    ],
)
def test_what_is_learned_is_read_in_the_configuration_and_not_in_what_was_typed(tmp_path, typed, change, parts):
    """A preset such as experiment=rotated_mnist hides the benchmark, and a default may be typed."""
    a = configured(tmp_path, "a", TASKS, typed)
    b = configured(tmp_path, "bb", TASKS | change, {}, seeds=(1, 2))
    assert len(paired.comparable([a, b])) == parts
    assert len(paired.pairs([a, b], ACCURACY)) == 2 - parts


def test_a_data_set_drawn_by_the_seed_is_compared_over_the_seeds_in_common(tmp_path):
    one, two, three = (TASKS | {"dataset": {"seed": seed}} for seed in (0, 1, 2))
    a = configured(tmp_path, "a", one, seeds=(0,)), configured(tmp_path, "a", two, seeds=(1,))
    b = configured(tmp_path, "b", two, seeds=(1,)), configured(tmp_path, "b", three, seeds=(2,))
    both = [Group(g[0].label, "", (), g[0].counted + g[1].counted) for g in (a, b)]
    assert len(paired.comparable(both)) == 1


def test_a_cell_that_never_ran_learns_nothing_else(tmp_path):
    a = configured(tmp_path, "a", TASKS)
    missing = Group("b", "b", (Run(Path("b0"), (), {}),), (), {"dataset": "x"})
    assert paired.comparable([a, missing]) == [[a]]


def test_what_differs_in_the_strategy_is_compared():
    groups = [replace(g, settings={"strategy": g.label, "strategy.strength": g.label}) for g in draws("a", "b")]
    assert len(paired.pairs(groups, ACCURACY)) == 1
    assert paired.best(groups, ACCURACY) == {"b"}
