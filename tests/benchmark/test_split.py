from dataclasses import replace
from itertools import chain

import pytest
import torch

from cl_fisher.benchmark.split import split
from cl_fisher.benchmark.task import Scenario, TaskSequence
from cl_fisher.dataset.digits import digits
from cl_fisher.dataset.examples import DataSet, Examples
from cl_fisher.error import InputError


def make(scenario="task", n_tasks=5, seed=0, fraction=0.1, data=None, **more) -> TaskSequence:
    return split(data or digits(), Scenario(scenario), n_tasks, seed, fraction, **more)


def labels(sequence: TaskSequence) -> list[list[int]]:
    """The data set's labels behind each task's units, in the order of the units."""
    label_of = torch.full((1797,), -1)
    label_of[digits().train.rows] = digits().train.targets
    return [
        [label_of[task.train.rows[task.train.targets == unit]].unique().item() for unit in task.units]
        for task in sequence.tasks
    ]


def test_natural_order_and_uneven_sizes():
    assert labels(make("class", 3, class_order="natural")) == [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert labels(make("task", 2, class_order="natural", sizes=[2, 5])) == [[0, 1], [2, 3, 4, 5, 6]]


def test_explicit_order_is_kept_within_a_task():
    assert labels(make("task", 2, class_order=[7, 3, 9, 0])) == [[7, 3], [9, 0]]


@pytest.mark.parametrize("scenario", ["task", "class", "domain"])
def test_random_order_by_seed(scenario):
    drawn = [labels(make(scenario, seed=seed)) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    order = list(chain(*drawn[0]))
    assert sorted(order) == list(range(10))
    assert order == list(chain(*labels(make(scenario, n_tasks=2)))), "the order does not depend on n_tasks"


def test_order_seed_draws_the_order_alone():
    fixed = make(seed=1, order_seed=0)
    assert labels(fixed) == labels(make(seed=0)) != labels(make(seed=1))
    assert not fixed.tasks[0].validation.rows.equal(make(seed=0).tasks[0].validation.rows)


def test_points_of_the_plane():
    where = torch.rand(40, 2, generator=torch.Generator().manual_seed(0))
    examples = Examples(where, torch.arange(40), torch.arange(40) % 4)
    tasks = make(n_tasks=2, data=DataSet(examples, examples, 4), class_order="natural", fraction=0)
    assert tasks.input_shape == (2,)
    assert tasks.tasks[1].test.inputs(torch.arange(20)).equal(where[examples.targets >= 2])


@pytest.mark.parametrize(
    ("scenario", "units"),
    [
        ("domain", [range(2)] * 5),
        ("task", [range(2), range(2, 4), range(4, 6), range(6, 8), range(8, 10)]),
        ("class", [range(2), range(2, 4), range(4, 6), range(6, 8), range(8, 10)]),
    ],
)
def test_units(scenario, units):
    sequence = make(scenario)
    assert [task.units for task in sequence.tasks] == units
    assert sequence.n_outputs == units[-1].stop
    for task in sequence.tasks:
        for part in (task.train, task.validation, task.test):
            assert part.targets.unique().tolist() == list(task.units)


def test_each_example_is_in_one_task_and_one_part():
    tasks = make().tasks
    rows = torch.cat([part.rows for task in tasks for part in (task.train, task.validation, task.test)])
    assert rows.sort().values.equal(torch.arange(1797))
    tested = torch.cat([task.test.rows for task in tasks])
    assert tested.sort().values.equal(digits().test.rows)


def test_test_targets_mean_the_same_labels_as_training_targets():
    for task, classes in zip(make(seed=3).tasks, labels(make(seed=3)), strict=True):
        for i, unit in enumerate(task.units):
            rows = task.test.rows[task.test.targets == unit]
            wanted = digits().test.rows[digits().test.targets == classes[i]]
            assert rows.equal(wanted)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"n_tasks": 6}, "at most 5"),
        ({"scenario": "domain", "n_tasks": 3}, "same number"),
        ({"sizes": [2, 2]}, "2 entries for n_tasks=5"),
        ({"class_order": [1, 1]}, "distinct"),
        ({"n_tasks": 0}, "n_tasks=0"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_refused(arguments, words):
    with pytest.raises(InputError, match=words):
        make(**arguments)


@pytest.mark.parametrize(("part", "name"), [("train", "training"), ("test", "test")])
def test_task_without_examples_is_refused_by_name(part, name):
    data = digits()
    kept = getattr(data, part)
    kept = kept.subset((kept.targets < 8).nonzero().flatten())
    with pytest.raises(InputError, match=rf"task 5 .* no {name} examples: its classes are \[8, 9\]"):
        make(data=replace(data, **{part: kept}), class_order="natural")
