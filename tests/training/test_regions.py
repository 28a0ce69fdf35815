from contextlib import contextmanager

import pytest
import torch

from cl_fisher.benchmark.split import split
from cl_fisher.benchmark.task import Scenario
from cl_fisher.dataset.digits import digits
from cl_fisher.dataset.examples import DataSet, Examples
from cl_fisher.event import Regions
from cl_fisher.model.mlp import MLP
from cl_fisher.strategy.finetune import Finetune
from cl_fisher.training.regions import SHOWN, SIDE, regions


def points(n=400) -> DataSet:
    """Sorted by class, as data sets may be."""
    where = torch.rand(n, 2, generator=torch.Generator().manual_seed(0))
    examples = Examples(where, torch.arange(n), torch.arange(n) * 6 // n)
    return DataSet(examples, examples, 6)


def tasks(scenario, data=None):
    return split(data or points(), Scenario(scenario), 3, 0, 0.0, "natural")


def told(scenario, seen, strategy=Finetune):
    sequence = tasks(scenario)
    torch.manual_seed(0)
    model = MLP(sequence.input_shape, sequence.n_outputs, [8])
    return model, list(regions(model, strategy(model), sequence, seen, seen))


@pytest.mark.parametrize(
    ("scenario", "seen", "asked", "active"),
    [
        ("task", 2, [1, 2], [range(2), range(2, 4)]),
        ("domain", 2, [2], [range(2)]),
        ("class", 1, [1], [range(2)]),
        ("class", 3, [3], [range(6)]),
    ],
)
def test_what_is_predicted_place_by_place(scenario, seen, asked, active):
    model, events = told(scenario, seen)
    assert [(event.after_task, event.task) for event in events] == [(seen, task) for task in asked]
    for event, units in zip(events, active, strict=True):
        assert len(event.x) == len(event.y) == len(event.unit) == len(event.probability) == SIDE**2
        for i in range(0, SIDE**2, 97):
            scores = model(torch.tensor([[event.x[i], event.y[i]]]))[0].detach()
            of_units = {unit: scores[unit].item() for unit in units}
            best = max(of_units, key=of_units.get)
            total = sum(torch.tensor(score - of_units[best]).exp().item() for score in of_units.values())
            assert event.unit[i] == best
            assert event.probability[i] == pytest.approx(1 / total, abs=1e-5)


def test_the_grid_surrounds_all_test_points_and_is_always_the_same():
    events = told("task", 3)[1]
    assert len({(event.x, event.y) for event in events}) == 1
    event, where = events[0], points().test.source
    assert len(set(event.x)) == len(set(event.y)) == SIDE
    assert event.x[:SIDE] == tuple(sorted(event.x[:SIDE])), "x runs faster"
    for axis, values in enumerate((event.x, event.y)):
        assert min(values) < where[:, axis].min() < where[:, axis].max() < max(values)


@pytest.mark.parametrize("scenario", ["task", "domain", "class"])
def test_before_training_it_is_the_test_points(scenario):
    events = told(scenario, 0)[1]
    sequence = tasks(scenario)
    assert [(event.after_task, event.task) for event in events] == [(0, 1), (0, 2), (0, 3)]
    for event, task in zip(events, sequence.tasks, strict=True):
        assert len(event.x) == SHOWN < len(task.test)
        assert set(event.unit) == set(task.units), "of every class, though they are sorted"
        assert set(event.probability) == {1.0}
        right = {
            tuple(p): t
            for p, t in zip(task.test.source[task.test.rows].tolist(), task.test.targets.tolist(), strict=True)
        }
        assert all(right[x, y] == unit for x, y, unit in zip(event.x, event.y, event.unit, strict=True))


class Turned(Finetune):
    """Serves task 1 the other way round."""

    @contextmanager
    def serving(self, task):
        yield (lambda inputs: -self.model(inputs)) if task == 1 else self.model


def test_each_task_is_asked_as_it_is_served():
    plain, turned = told("task", 2)[1], told("task", 2, Turned)[1]
    assert all(a != b for a, b in zip(plain[0].unit, turned[0].unit, strict=True)), "the worse of two"
    assert plain[1] == turned[1]


def test_images_have_no_regions():
    sequence = tasks("task", digits())
    model = MLP(sequence.input_shape, sequence.n_outputs, [4])
    assert list(regions(model, Finetune(model), sequence, 1, 1)) == []


def test_nothing_is_left_behind():
    sequence = tasks("task")
    model = torch.nn.Sequential(MLP(sequence.input_shape, 6, [8]), torch.nn.Dropout())
    before = torch.get_rng_state()
    assert all(isinstance(event, Regions) for event in regions(model, Finetune(model), sequence, 1, 1))
    assert torch.get_rng_state().equal(before)
    assert model.training
    assert all(p.grad is None for p in model.parameters())
