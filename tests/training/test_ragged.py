"""A last batch of one example is refused before training where the model cannot train on it."""

from functools import partial

import pytest

from cl_fisher.benchmark.task import Scenario
from cl_fisher.error import InputError, RunError
from cl_fisher.event import RunStarted
from cl_fisher.strategy.finetune import Finetune
from cl_fisher.strategy.gdumb import GDumb
from cl_fisher.strategy.independent import Independent
from cl_fisher.strategy.joint import Joint

N = 1294
"""Training examples of permuted digits when a tenth is held out; 1293 = 3 * 431 leaves one over."""


@pytest.mark.parametrize("batchnorm", ["as_is", "frozen"])
def test_one_example_left_over_for_batch_norm(make_stream, batchnorm):
    stream = make_stream(norm=True, iterations=None, epochs=1, batch_size=431, batchnorm=batchnorm)
    before = {name: tensor.clone() for name, tensor in stream.model.state_dict().items()}
    with pytest.raises(InputError, match=f"batch_size=431: task 1 has {N} examples, so one is left over"):
        stream.check()
    assert all(tensor.equal(before[name]) for name, tensor in stream.model.state_dict().items())


@pytest.mark.parametrize(
    "options",
    [
        {"norm": True, "batch_size": 430, "epochs": 1, "iterations": None},
        {"norm": True, "batch_size": 431, "iterations": 3},
        {"norm": True, "strategy": Joint, "batch_size": 199, "iterations": 6},
        {"norm": False, "batch_size": 431, "epochs": 1, "iterations": None},
    ],
    ids=["more than one left over", "never reached", "never reached by joint", "no batch norm"],
)
def test_what_can_be_trained_is_not_refused(make_stream, options):
    stream = make_stream(**options)
    stream.check()
    stream.train(stream.phases[0])


@pytest.mark.parametrize(
    "options",
    [
        {"strategy": Joint, "iterations": 7, "batch_size": 199},
        {"strategy": Finetune, "iterations": 2, "batch_size": 431, "trainer": {"accumulate_grad_batches": 2}},
    ],
    ids=["joint takes the steps of all tasks", "several batches a step"],
)
def test_a_last_batch_that_is_reached_in_other_ways(make_stream, options):
    n = 2 * N if options["strategy"] is Joint else N
    assert n % options["batch_size"] == 1
    with pytest.raises(InputError, match=f"has {n} examples, so one is left over"):
        make_stream(norm=True, **options).check()


def test_networks_that_start_anew_train_their_statistics_in_every_task(make_stream):
    scenario = {"benchmark": "split", "scenario": "task", "n_tasks": 2, "batchnorm": "frozen", "epochs": 1}
    sizes = [len(t.train) for t in make_stream(Finetune, **scenario).sequence.tasks]
    batch_size = sizes[1] - 1
    assert sizes[0] % batch_size != 1
    make_stream(Finetune, norm=True, iterations=None, batch_size=batch_size, **scenario).check()
    with pytest.raises(InputError, match=f"task 2 has {sizes[1]} examples"):
        make_stream(Independent, norm=True, iterations=None, batch_size=batch_size, **scenario).check()


def test_what_a_memory_leaves_over_is_explained_when_it_comes(make_stream):
    stream = make_stream(
        partial(GDumb, capacity=21), norm=True, iterations=None, epochs=1, batch_size=20, scenario=Scenario("domain")
    )
    stream.check()
    with pytest.raises(RunError, match="task 1: a batch of one example came, for batch norm; take another batch_size"):
        stream.run(RunStarted(2, 2, {}, {}))
