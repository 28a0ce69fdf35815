"""Blurred boundaries: nothing is lost or doubled, and as much is dealt out as was asked for."""

import pytest
import torch

from cl_fisher.benchmark.blur import blurred
from cl_fisher.benchmark.permuted import permuted
from cl_fisher.benchmark.split import split
from cl_fisher.benchmark.task import Scenario
from cl_fisher.dataset.digits import digits
from cl_fisher.error import InputError
from cl_fisher.strategy.cumulative import Cumulative
from cl_fisher.strategy.finetune import Finetune
from cl_fisher.strategy.joint import Joint
from cl_fisher.training.phase import phases_of

SIZES = [[100, 100, 100], [7, 50, 1, 33, 12], [10], [4, 9], [0, 5, 6]]


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_every_example_comes_once(sizes, fraction):
    times = blurred(sizes, fraction, 3)
    assert len(times) == len(sizes)
    for number, size in enumerate(sizes, start=1):
        seen = torch.cat([time[number] for time in times if number in time] or [torch.empty(0, dtype=torch.int64)])
        assert torch.equal(seen.sort().values, torch.arange(size))
    for time in times:
        assert list(time) == sorted(time)
        for which in time.values():
            assert len(which) > 0
            assert torch.equal(which, which.sort().values)


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.3, 0.75])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_the_fraction_that_comes_elsewhere(sizes, fraction):
    """Rounded, and dealt out evenly over all the other tasks' times."""
    times = blurred(sizes, fraction, 0)
    for number, size in enumerate(sizes, start=1):
        shares = [len(time.get(number, ())) for t, time in enumerate(times, start=1) if t != number]
        assert sum(shares) == (round(fraction * size) if shares else 0)
        assert max(shares, default=0) - min(shares, default=0) <= 1


def test_what_comes_elsewhere_is_drawn():
    """By the seed, task by task: neither the first examples nor the same ones of each task."""
    first, again, other = (blurred([200, 200, 200], 0.3, seed) for seed in (1, 1, 2))
    for a, b, c in zip(first, again, other, strict=True):
        assert all(torch.equal(a[n], b[n]) for n in a)
        assert not any(torch.equal(a[n], c[n]) for n in a)
    assert not torch.equal(first[0][1], torch.arange(60, 200))
    assert not torch.equal(first[2][1], first[2][2])


def test_a_task_s_draw_does_not_depend_on_the_others():
    short, long = blurred([50, 60, 70], 0.2, 0), blurred([50, 80, 90], 0.2, 0)
    assert torch.equal(short[0][1], long[0][1])
    assert torch.equal(short[2][1], long[2][1])


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_fractions_out_of_range(fraction):
    with pytest.raises(InputError, match="fraction="):
        blurred([10, 10], fraction, 0)


def sequence(scenario, benchmark=split, n_tasks=3):
    return benchmark(digits(), scenario, n_tasks=n_tasks, seed=0, validation_fraction=0.1)


def contents(phase):
    """What a phase trains on, example by example: rows of the data set and targets."""
    return {(n, int(r), int(t)) for n, e in phase.data.items() for r, t in zip(e.rows, e.targets, strict=True)}


@pytest.mark.parametrize("scenario", [Scenario("task", blur=0.3), Scenario("class", head="full", blur=0.3)])
def test_phases_of_a_blurred_sequence(scenario):
    tasks = sequence(scenario)
    everything = set().union(*(contents(p) for p in phases_of(sequence(Scenario("task")), Finetune)))
    phases = phases_of(tasks, Finetune, seed=4)
    parts = [contents(p) for p in phases]
    assert set().union(*parts) == everything
    assert sum(map(len, parts)) == len(everything)
    for phase in phases:
        own = len(phase.data[phase.number])
        assert own == len(tasks.tasks[phase.number - 1].train) - round(0.3 * len(tasks.tasks[phase.number - 1].train))
        assert set(phase.data) == {1, 2, 3}
    grown = [contents(p) for p in phases_of(tasks, Cumulative, seed=4)]
    assert grown == [parts[0], parts[0] | parts[1], everything]
    (joint,) = phases_of(tasks, Joint, seed=4)
    assert contents(joint) == everything


def test_no_blur_leaves_the_tasks_as_they_are():
    tasks = sequence(Scenario("domain"), permuted)
    for task, phase in zip(tasks.tasks, phases_of(tasks, Finetune), strict=True):
        assert phase.data == {task.number: task.train}


def test_test_data_are_not_blurred():
    plain, blurry = (sequence(Scenario("task", blur=b)) for b in (0.0, 0.4))
    assert all(torch.equal(a.test.rows, b.test.rows) for a, b in zip(plain.tasks, blurry.tasks, strict=True))


@pytest.mark.parametrize("head", ["growing", "separate"])
def test_refused_where_classes_would_come_before_their_outputs(head):
    with pytest.raises(InputError, match=rf"scenario\.blur=0\.1 is not possible with scenario\.head={head}"):
        Scenario("class", head=head, blur=0.1)
