"""GDumb: what it trains on and where it starts."""

import torch
from torch import nn

from cl_fisher.dataset.examples import Examples
from cl_fisher.strategy.gdumb import GDumb


def task(number, n=700):
    source = torch.arange(n, dtype=torch.uint8 if n < 256 else torch.int32).view(n, 1, 1, 1) + 1000 * number
    return Examples(source, torch.arange(n), torch.arange(n) % 2 + 2 * number - 2, scale=10.0)


def test_training_data_are_equal_shares_of_all_classes_so_far():
    strategy = GDumb(nn.Linear(1, 6), capacity=21)
    for number in (1, 2, 3):
        strategy.begin_task(number, [None] * number)
        data = strategy.training_data({number: task(number)})
        assert list(data) == list(range(1, number + 1))
        targets = torch.cat([part.targets for part in data.values()])
        counts = targets.unique(return_counts=True)[1]
        assert len(targets) == 21
        assert len(counts) == 2 * number
        assert counts.max() - counts.min() <= 1
        for t, part in data.items():
            pixels = part.inputs(torch.arange(len(part))).flatten() * 10
            assert torch.equal(pixels.round().long() % 1000 % 2 + 2 * t - 2, part.targets)
            assert part.transform is None


def test_each_task_begins_with_the_initial_weights_and_buffers():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    strategy = GDumb(model)
    before = {name: w.clone() for name, w in model.state_dict().items()}
    for number in (1, 2):
        strategy.begin_task(number, [None])
        assert all(torch.equal(w, before[name]) for name, w in model.state_dict().items())
        with torch.no_grad():
            model(torch.randn(5, 2))
            model[0].weight.add_(1)


def test_other_initial_weights_survive_in_the_state():
    first, second = GDumb(nn.Linear(2, 3)), GDumb(nn.Linear(2, 3))
    second.load_state_dict(first.state_dict())
    second.begin_task(2, [None])
    assert torch.equal(first.model.weight, second.model.weight)
