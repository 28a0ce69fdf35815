"""What must hold of every strategy in conf/strategy, whoever adds one: its limits are known strategies, bit for bit.

That EWC is joint training where it should be, and its collapsed penalty the sum over tasks: see `test_structures.py`.
"""

import functools

import pytest
import torch
from hydra import compose, initialize_config_dir

from cl_fisher.cli import job
from cl_fisher.cli.catalog import Catalog
from cl_fisher.config import conf_dir, register_resolvers
from cl_fisher.config.signature import constant
from cl_fisher.error import InputError
from cl_fisher.event import RunStarted
from cl_fisher.strategy.strategy import Strategy
from cl_fisher.training import checkpoint

CATALOG = Catalog((conf_dir(),))
STRATEGIES = sorted(CATALOG.groups["strategy"])
SMALL = ("model.hidden=[16]", "iterations=6", "epochs=null", "batch_size=32", "checkpoint=none", "fisher.check=false")


@functools.cache
def configured(strategy):
    return settings(strategy).strategy


def settings(strategy, *overrides):
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("config", overrides=[f"strategy={strategy}", *SMALL, *overrides])


def scenario_of(strategy):
    """Where a strategy can be tried: the first scenario that it allows."""
    return (constant(configured(strategy)["_target_"], "SCENARIOS") or ("domain",))[0]


def stream_of(strategy, scenario, *overrides, directory=None):
    return job.assemble(settings(strategy, f"scenario={scenario}", *overrides), directory=directory)


def ended(strategy, scenario, *overrides):
    stream = stream_of(strategy, scenario, *overrides)
    stream.run(RunStarted(2, 2, {}, {}))
    return stream


def weights(stream):
    return torch.cat([p.detach().flatten() for p in stream.model.parameters()])


@functools.cache
def finetuned(scenario, *overrides):
    return weights(ended("finetune", scenario, *overrides))


def ignores_strength(strategy):
    """Says so beside `strength` in its YAML."""
    line = next(x for x in CATALOG.groups["strategy"][strategy].read_text().splitlines() if x.startswith("strength:"))
    return "ignored" in line


def regularises(strategy):
    """Acts through its strength alone: it trains on the examples of each task and no others."""
    if ignores_strength(strategy):
        return False
    made = type(stream_of(strategy, scenario_of(strategy), "n_tasks=2").strategy)
    return all(getattr(made, hook) is getattr(Strategy, hook) for hook in ("mix", "training_data", "trains_on"))


REGULARISING = [s for s in STRATEGIES if regularises(s)]
PROXIMAL = [s for s in REGULARISING if "step" in configured(s)]


def test_the_lists_hold_what_they_should():
    assert {"ewc", "online_ewc", "l2", "ncl"} <= set(REGULARISING)
    assert {"ewc", "online_ewc", "l2"} <= set(PROXIMAL)
    assert not {"finetune", "joint", "cumulative", "independent", "packnet"} & set(REGULARISING)


@pytest.mark.parametrize("strategy", REGULARISING)
def test_no_strength_is_finetuning_bit_for_bit(strategy):
    scenario = scenario_of(strategy)
    idle = weights(ended(strategy, scenario, "n_tasks=2", "strategy.strength=0"))
    assert torch.equal(idle, finetuned(scenario, "n_tasks=2"))


@pytest.mark.parametrize("strategy", REGULARISING)
def test_some_strength_is_not(strategy):
    scenario = scenario_of(strategy)
    held = weights(ended(strategy, scenario, "n_tasks=2", "strategy.strength=10"))
    assert not torch.equal(held, finetuned(scenario, "n_tasks=2"))


@pytest.mark.parametrize("strategy", PROXIMAL)
def test_no_strength_is_finetuning_with_proximal_steps_too(strategy):
    idle = weights(ended(strategy, "domain", "n_tasks=2", "strategy.strength=0", "strategy.step=proximal"))
    assert torch.equal(idle, finetuned("domain", "n_tasks=2"))


@pytest.mark.parametrize("strategy", [*REGULARISING, "joint", "cumulative", "independent"])
def test_one_task_is_plain_training(strategy):
    scenario = scenario_of(strategy)
    assert torch.equal(weights(ended(strategy, scenario, "n_tasks=1")), finetuned(scenario, "n_tasks=1"))


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("strategy", PROXIMAL)
def test_a_huge_strength_freezes_what_is_protected(strategy, optimizer):
    more = ("n_tasks=2", "strategy.strength=1e12", "strategy.step=proximal", f"optimizer={optimizer}", "iterations=20")
    stream = stream_of(strategy, "domain", *more)
    first, second = stream.phases
    stream.train(first)
    stream.consolidation.end_task(first, 0)
    precision = torch.cat([f.flatten() for f in stream.strategy.quadratic.precision.diagonal().values()])
    before = weights(stream)
    stream.train(second)
    moved = (weights(stream) - before).abs()
    protected = precision > 1e-3 * precision.max()
    assert int(protected.sum()) > 100
    assert float(moved[protected].max()) < 1e-5
    if not bool(protected.all()):
        assert float(moved[~protected].max()) > 1e-3


@pytest.mark.parametrize("strategy", PROXIMAL)
def test_an_optimizer_without_a_known_metric_is_refused_before_training(strategy):
    other = ("optimizer._target_=torch.optim.RMSprop", "~optimizer.betas", "n_tasks=2")
    with pytest.raises(InputError, match="not for RMSprop"):
        job.check(settings(strategy, *other, "strategy.step=proximal", "logger=none"))
    job.check(settings(strategy, *other, "logger=none"))


@pytest.mark.parametrize("strategy", [s for s in STRATEGIES if s != "joint"])
def test_a_run_goes_on_from_its_checkpoint_bit_for_bit(strategy, tmp_path):
    """What it predicts of old tasks too; `joint` has one phase and nothing to go on from."""
    more = (scenario_of(strategy), "n_tasks=3", "checkpoint=all")
    whole = stream_of(strategy, *more, directory=tmp_path)
    whole.run(RunStarted(3, 3, {}, {}))
    resumed = stream_of(strategy, *more)
    torch.rand(7)
    resumed.load_state_dict(checkpoint.load(tmp_path / "checkpoints" / "task_001.pt"))
    resumed.run(RunStarted(3, 3, {}, {}))
    assert torch.equal(weights(whole), weights(resumed))
    assert whole.ledger.rows == resumed.ledger.rows
    assert whole.strategy.state_bytes == resumed.strategy.state_bytes
