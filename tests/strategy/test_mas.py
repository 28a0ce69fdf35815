"""Memory aware synapses against plain loops over examples, in float64."""

import pytest
import torch
from torch import nn

from cl_fisher.error import InputError
from cl_fisher.strategy.mas import MAS
from tests.strategy.lockstep import OPTIMIZERS, assert_same_weights, examples, network, train
from tests.strategy.naive import Naive


def by_definition(model, inputs, head):
    """Mean over examples of |d ||f||^2 / d theta|, one backward pass each."""
    total = [torch.zeros_like(p) for p in model.parameters()]
    for n in range(len(inputs)):
        model.zero_grad()
        model(inputs[n : n + 1])[0, head.start : head.stop].square().sum().backward()
        for t, p in zip(total, model.parameters(), strict=True):
            t += p.grad.abs()
    model.zero_grad()
    return [t / len(inputs) for t in total]


class NaiveMAS(Naive):
    def end(self, data, head):
        found = by_definition(self.model, data[0], head)
        old = self.importance or [0.0] * len(found)
        self.importance = [a + b for a, b in zip(old, found, strict=True)]


@pytest.mark.parametrize("scenario", ["task", "domain", "class"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("step", ["gradient", "proximal"])
def test_every_step_of_two_tasks_is_that_of_the_plain_loop(scenario, optimizer, step):
    mas = MAS(network(), strength=4.0, step=step)
    naive = NaiveMAS(network(), OPTIMIZERS[optimizer], 4.0, step, scenario)
    optimizer_ = OPTIMIZERS[optimizer](list(mas.model.parameters()))
    for number in (1, 2):
        for _ in zip(train(mas, optimizer_, number, scenario), naive.train(number), strict=True):
            assert_same_weights(mas.model, naive.model, rtol=1e-9, atol=1e-12)
    for (_, entry), wanted in zip(mas.quadratic.precision.diagonal().items(), naive.importance, strict=True):
        torch.testing.assert_close(entry, wanted, rtol=1e-9, atol=1e-12)
    assert mas.quadratic.n_tasks == 2


class Odd(nn.Module):
    """Layers with and without a rule of their own, one of them used twice, on sequences and on vectors."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(1, 3, 2)
        self.twice = nn.Linear(3, 3)
        self.scale = nn.Parameter(torch.linspace(0.5, 1.5, 3))
        self.norm = nn.BatchNorm1d(3)
        self.drop = nn.Dropout(0.5)
        self.out = nn.Linear(3, 4)

    def forward(self, x):
        x = self.conv(x[:, None]).transpose(1, 2)
        x = torch.tanh(self.twice(torch.tanh(self.twice(x)))).sum(1) * self.scale
        return self.out(self.drop(self.norm(x)))


def test_any_layer_example_by_example_in_evaluation_mode():
    torch.manual_seed(0)
    model = Odd().double()
    model(examples(1)[0])  # running statistics of its own
    mas = MAS(model)
    mas.consolidate([examples(1)], range(2))
    assert model.training
    model.eval()
    for (_, entry), wanted in zip(
        mas.quadratic.precision.diagonal().items(), by_definition(model, examples(1)[0], range(2)), strict=True
    ):
        torch.testing.assert_close(entry, wanted, rtol=1e-9, atol=1e-12)


def test_no_batch_size_and_no_label_has_a_say():
    x, y = examples(1)
    found = []
    for data in ([(x, y)], [(x[:5], y[:5]), (x[5:], y[5:])], [(x, 1 - y)]):
        mas = MAS(network())
        mas.consolidate(data, range(2))
        found.append(mas.quadratic.precision.diagonal())
    for other in found[1:]:
        for name, entry in found[0].items():
            torch.testing.assert_close(entry, other[name], rtol=1e-12, atol=1e-14)


def test_as_many_samples_as_asked():
    x, y = examples(1)
    few, first = MAS(network(), samples=7), MAS(network())
    few.consolidate([(x, y)], range(2))
    first.consolidate([(x[:7], y[:7])], range(2))
    for name, entry in first.quadratic.precision.diagonal().items():
        torch.testing.assert_close(few.quadratic.precision.diagonal()[name], entry, rtol=1e-12, atol=1e-14)


def test_a_mistake_is_seen_before_training_and_nothing_changes():
    mas = MAS(network())
    x, y = examples(1)
    mas.check([(x, y)], range(2))
    assert mas.quadratic.precision is None
    with pytest.raises(InputError, match="not among the active classes"):
        mas.check([(x, y + 2)], range(2))
