import pickle

import pytest
import torch

from cl_fisher.benchmark.permuted import PixelPermutation, permuted
from cl_fisher.benchmark.task import Scenario, TaskSequence
from cl_fisher.dataset.digits import digits
from cl_fisher.dataset.examples import DataSet, Examples
from cl_fisher.error import InputError


def make(scenario="domain", n_tasks=3, seed=0, fraction=0.1, **more) -> TaskSequence:
    return permuted(digits(), Scenario(scenario), n_tasks, seed, fraction, **more)


def splits(task):
    return {"train": task.train, "validation": task.validation, "test": task.test}


def orders(sequence: TaskSequence) -> list[list[int] | None]:
    return [task.train.transform and task.train.transform.order.tolist() for task in sequence.tasks]


def test_first_task_is_as_it_was():
    first, plain = make().tasks[0].test, digits().test
    assert first.inputs(torch.arange(360)).equal(plain.inputs(torch.arange(360)))
    assert orders(make(identity_first=False))[0] is not None


def test_same_permutation_in_train_validation_and_test():
    base = make().tasks[0]
    for task in make().tasks[1:]:
        order = torch.tensor(orders(make())[task.number - 1])
        assert order.sort().values.equal(torch.arange(64))
        for name, part in splits(task).items():
            everything = torch.arange(len(part))
            expected = splits(base)[name].raw(everything).flatten(1)[:, order]
            assert part.raw(everything).flatten(1).equal(expected), name


def test_depends_on_seed_and_task_number_only():
    short, long, other = orders(make(n_tasks=3)), orders(make(n_tasks=6)), orders(make(seed=1))
    assert long[:3] == short
    assert orders(make(identity_first=False))[1:] == short[1:]
    assert orders(make("class", fraction=0)) == short
    assert len({tuple(order) for order in long[1:] + other[1:]}) == 7


def test_test_rows_are_never_trained_on_and_the_rest_is_all():
    for task in make().tasks:
        used = torch.cat([task.train.rows, task.validation.rows])
        assert not torch.isin(task.test.rows, used).any()
        assert used.sort().values.equal(digits().train.rows)


def test_validation_images_are_the_same_in_every_task():
    first, *others = (task.validation.rows for task in make().tasks)
    assert all(rows.equal(first) for rows in others)


@pytest.mark.parametrize(
    ("scenario", "units"),
    [
        ("domain", [range(10)] * 3),
        ("task", [range(10), range(10, 20), range(20, 30)]),
        ("class", [range(10), range(10, 20), range(20, 30)]),
    ],
)
def test_units(scenario, units):
    sequence = make(scenario)
    assert [task.units for task in sequence.tasks] == units
    assert sequence.n_outputs == units[-1].stop
    for task in sequence.tasks:
        for part, plain in ((task.train, make().tasks[0].train), (task.test, digits().test)):
            assert part.targets.equal(plain.targets + task.units.start)


def test_one_by_one_and_materialised_are_bit_for_bit_the_batch():
    part = make().tasks[2].train
    which = torch.tensor([7, 3, 3, 1000])
    batch = part.inputs(which)
    assert part.materialised().inputs(which).equal(batch)
    for i, one in enumerate(which):
        assert part.inputs(one.view(1)).equal(batch[i : i + 1])


def test_channels_of_a_pixel_stay_together_and_type_is_kept():
    raw = torch.arange(2 * 3 * 4, dtype=torch.uint8).view(2, 3, 2, 2)
    out = PixelPermutation(torch.tensor([2, 0, 3, 1]))(raw)
    assert out.dtype == torch.uint8
    assert out[1, 2].tolist() == [[22, 20], [23, 21]]
    assert out[0, 0].tolist() == [[2, 0], [3, 1]]


def test_goes_to_worker_processes():
    part = make().tasks[1].test
    assert pickle.loads(pickle.dumps(part)).raw(torch.tensor([3])).equal(part.raw(torch.tensor([3])))


@pytest.mark.parametrize(("key", "value"), [("n_tasks", 0), ("n_tasks", 2.0), ("seed", -1), ("fraction", 1)])
def test_bounds(key, value):
    with pytest.raises(InputError, match=key):
        make(**{key: value})


def test_order_seed_draws_the_permutations_alone():
    assert orders(make(seed=1, order_seed=0)) == orders(make(seed=0))
    assert orders(make(seed=0, order_seed=0)) == orders(make(seed=0))
    assert not make(seed=1, order_seed=0).tasks[0].validation.rows.equal(make(seed=0).tasks[0].validation.rows)


def test_points_of_the_plane_are_refused():
    examples = Examples(torch.zeros(4, 2), torch.arange(4), torch.tensor([0, 1, 0, 1]))
    with pytest.raises(InputError, match=r"nothing to permute.*benchmark=rotated or split") as error:
        permuted(DataSet(examples, examples, 2), Scenario("task"), 2, 0, 0)
    assert "\n" not in str(error.value)


def test_the_entries_of_vectors_are_permuted():
    examples = Examples(torch.rand(12, 5), torch.arange(12), torch.arange(12) % 3)
    tasks = permuted(DataSet(examples, examples, 3), Scenario("domain"), 4, 0, 0.0).tasks
    plain = tasks[0].train.inputs(torch.arange(12))
    for task in tasks[1:]:
        assert task.train.inputs(torch.arange(12)).equal(plain[:, task.train.transform.order])
        assert sorted(task.train.transform.order.tolist()) == list(range(5))
