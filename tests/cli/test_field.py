"""The whole field: every strategy in every scenario on every benchmark, as the files under conf/ name them.

A new file is taken up by itself. What cannot be done must be refused before training, and must be listed here.
"""

from itertools import product

import pytest
from hydra import compose, initialize_config_dir

from cl_fisher.cli import job
from cl_fisher.config import conf_dir, register_resolvers, validate
from cl_fisher.error import InputError

SMALL = ["model.hidden=[8]", "n_tasks=2", "iterations=2", "logger=none", "checkpoint=none"]
SMALL += ["fisher.samples=10", "fisher.check=false"]
FIELD = {
    group: sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))
    for group in ("strategy", "scenario", "benchmark")
}
REFUSALS = {
    "predicts with the task's own network, so must be told the task": (
        {"independent", "packnet"},
        {"domain", "class"},
    ),
    "teaches each output in one task only": ({"icarl"}, {"domain"}),
}
"""By property: the strategies that have it, and the scenarios that it rules out, whatever the benchmark."""
REFUSED = {pair for strategies, scenarios in REFUSALS.values() for pair in product(strategies, scenarios)}
ALL = list(product(*FIELD.values()))
RUNS = [point for point in ALL if point[:2] not in REFUSED]


@pytest.fixture(scope="module")
def composed():
    """composed(strategy=..., ...): a whole configuration; each file is composed once, for Hydra takes its time."""
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        base = compose("config", SMALL)
        parts = {
            (group, choice): compose("config", [f"{group}={choice}"])[group]
            for group, choices in FIELD.items()
            for choice in choices
        }
    for (group, _), part in parts.items():
        for name in part.get("datasets", {}) if group == "benchmark" else ():
            part.datasets[name] = base.dataset

    def make(**chosen):
        cfg = base.copy()
        for group, choice in chosen.items():
            cfg[group] = parts[group, choice]
        return cfg

    return make


@pytest.mark.parametrize(("strategy", "scenario", "benchmark"), RUNS)
def test_it_runs(composed, strategy, scenario, benchmark):
    cfg = composed(strategy=strategy, scenario=scenario, benchmark=benchmark)
    validate(cfg)
    stream = job.assemble(cfg)
    stream.check()
    summary = stream.run(None)
    assert summary["final"]
    assert all(0 <= accuracy <= 1 for accuracy in summary["accuracy"][-1])
    assert [len(row) for row in summary["accuracy"]] == [2] * len(stream.phases)


@pytest.mark.parametrize(("strategy", "scenario", "benchmark"), [p for p in ALL if p[:2] in REFUSED])
def test_it_is_refused_with_the_reason(composed, strategy, scenario, benchmark):
    with pytest.raises(InputError, match=f"scenario={scenario} is not possible with ") as error:
        validate(composed(strategy=strategy, scenario=scenario, benchmark=benchmark))
    reason = str(error.value).partition(":")[2].partition(";")[0]
    assert len(reason.split()) > 3
    assert "\n" not in str(error.value)


def test_the_field_is_what_it_was():
    """At least: so that a pattern that matches no file does not pass for a field where all is well."""
    assert {"finetune", "joint", "ewc"} <= set(FIELD["strategy"])
    assert {"task", "domain", "class"} == set(FIELD["scenario"])
    assert {"permuted", "rotated", "split", "sequence"} <= set(FIELD["benchmark"])
