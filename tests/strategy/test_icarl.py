"""iCaRL: herding, loss and nearest means, each against its definition."""

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy, normalize, one_hot
from torch.utils.data import DataLoader, TensorDataset

from cl_fisher.dataset.examples import Examples
from cl_fisher.error import InputError
from cl_fisher.strategy.batch import Batch
from cl_fisher.strategy.icarl import ICaRL, herd

HEADS = [range(2), range(2, 4)]


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4)).double()


def data(task, n=30):
    draw = torch.Generator().manual_seed(task)
    targets = torch.arange(n) % 2 + 2 * (task - 1)
    return torch.randn(n, 3, generator=draw, dtype=torch.float64), targets


def batch(task, n=6):
    inputs, targets = data(task, n)
    return Batch(inputs, targets, torch.arange(n), torch.full((n,), task))


def pieces(task):
    return list(zip(*(column.split(8) for column in data(task)), strict=True))


def second_task(heads=HEADS, **options):
    strategy = ICaRL(network(), **options)
    strategy.begin_task(1, heads[:1])
    strategy.consolidate(pieces(1))
    strategy.begin_task(2, heads)
    return strategy


def naive_herd(features, n):
    mean, chosen = features.mean(0), []
    for k in range(1, n + 1):
        left = [i for i in range(len(features)) if i not in chosen]
        away = [(mean - (features[chosen].sum(0) + features[i]) / k).norm() for i in left]
        chosen.append(left[int(torch.stack(away).argmin())])
    return chosen


@pytest.mark.parametrize("length", [True, False])
def test_herding_by_brute_force(length):
    torch.manual_seed(0)
    features = torch.randn(25, 4, dtype=torch.float64) + 1
    features = normalize(features) if length else features
    order = herd(features, 25).tolist()
    assert order == naive_herd(features, 25)
    assert herd(features, 7).tolist() == order[:7]
    assert sorted(herd(features, 99).tolist()) == list(range(25))


@pytest.mark.parametrize(
    ("options", "first", "then"), [({"capacity": 10}, 5, [3, 3, 2, 2]), ({"per_class": 4}, 4, [4] * 4)]
)
def test_exemplars_are_the_first_of_each_herd(options, first, then):
    strategy = second_task(**options)
    features = normalize(strategy.model[:2](data(1)[0])).detach()
    herds = {}
    for c in (0, 1):
        own = (data(1)[1] == c).nonzero().flatten()
        herds[c] = data(1)[0][own[naive_herd(features[own], first)]]
        kept = strategy.buffer.columns
        assert torch.equal(kept["inputs"][kept["targets"] == c], herds[c])
    strategy.consolidate(pieces(2))
    kept = strategy.buffer.columns
    assert kept["targets"].unique(return_counts=True)[1].tolist() == then
    for c in (0, 1):
        assert torch.equal(kept["inputs"][kept["targets"] == c], herds[c][: then[c]])


@pytest.mark.parametrize("told", [False, True])
def test_another_order_at_the_second_reading_is_refused(told):
    """By the labels, or where these are all the same by the positions; nothing is taken then."""
    inputs, targets = data(1)
    columns = (inputs, torch.zeros_like(targets), torch.arange(30)) if told else (inputs, targets)
    shuffled = DataLoader(TensorDataset(*columns), 5, shuffle=True, generator=torch.Generator().manual_seed(0))
    strategy = ICaRL(network())
    strategy.begin_task(1, HEADS[:1])
    with pytest.raises(InputError, match="second time examples came in another order: do not shuffle"):
        strategy.consolidate(shuffled)
    assert len(strategy.buffer) == 0


def test_batches_that_can_be_read_once_are_refused():
    strategy = ICaRL(network())
    strategy.begin_task(1, HEADS[:1])
    with pytest.raises(InputError, match="reads the batches twice, but `batches` is an iterator"):
        strategy.consolidate(iter(pieces(1)))


def test_with_blurred_boundaries_outputs_of_later_tasks_are_still_taught_by_labels():
    """Some examples of task 2 come early: their classes have exemplars when it begins, and are not old for that."""
    strategy = ICaRL(network(), capacity=20)
    strategy.begin_task(1, [range(4)] * 2)
    early = tuple(column[:4] for column in batch(2))
    strategy.consolidate([batch(1, 30), early])
    assert strategy.buffer.columns["task"].bincount().tolist() == [0, 16, 4]
    strategy.begin_task(2, [range(4)] * 2)
    own = batch(2)
    logits = strategy.model(own.inputs)
    labels = torch.cat([logits.sigmoid().detach()[:, :2], one_hot(own.targets, 4).double()[:, 2:]], 1)
    wanted = binary_cross_entropy(logits.sigmoid(), labels, reduction="sum") / len(logits)
    assert strategy.loss(own, logits, torch.tensor(0.0)).item() == pytest.approx(wanted.item(), rel=1e-9)
    strategy.consolidate([tuple(column[4:] for column in batch(2, 30))])
    assert strategy.buffer.columns["targets"].bincount().tolist() == [5] * 4


def test_exemplars_join_the_training_data():
    strategy, (inputs, targets) = second_task(capacity=10), data(2)
    task = Examples(inputs.float(), torch.arange(30), targets)
    found = strategy.training_data({2: task})
    assert list(found) == [1, 2]
    assert found[2] is task
    assert torch.equal(found[1].targets, torch.tensor([0] * 5 + [1] * 5))
    blurred = strategy.training_data({1: task.subset(torch.arange(3)), 2: task})
    assert len(blurred[1]) == 13
    assert torch.equal(blurred[1].inputs(torch.tensor([12])), task.inputs(torch.tensor([2])))


def log_loss(p, q):
    return -(q * p.log() + (1 - q) * (1 - p).log())


@pytest.mark.parametrize("strength", [0.0, 1.0, 0.5])
@pytest.mark.parametrize("heads", [HEADS, [range(4)] * 2, [range(3)] * 2])
def test_the_loss(heads, strength):
    """Old outputs 0 and 1 follow the old network on every example; new ones the label, where they compete."""
    strategy = second_task(heads, strength=strength)
    new = batch(2)._replace(targets=torch.full((6,), 2))
    mixed = Batch(*(torch.cat(pair) for pair in zip(batch(1), new, strict=True)))
    old = strategy.model(mixed.inputs).detach().sigmoid()
    with torch.no_grad():
        strategy.model[0].weight.add_(0.5)
    p = strategy.model(mixed.inputs).sigmoid()
    wanted = 0.0
    for i in range(12):
        wanted += strength * sum(log_loss(p[i, j], old[i, j]) for j in (0, 1))
        competing = heads[mixed.task[i] - 1]
        wanted += sum(log_loss(p[i, j], float(mixed.targets[i] == j)) for j in (2, 3) if j in competing)
    logits = strategy.model(mixed.inputs)
    found = strategy.loss(mixed, logits, torch.tensor(99.0))
    assert found.item() == pytest.approx(wanted.item() / 12, rel=1e-10)


def test_the_first_task_is_plain_binary_cross_entropy():
    strategy, own = ICaRL(network()), batch(1)
    strategy.begin_task(1, HEADS[:1])
    logits = strategy.model(own.inputs)
    wanted = log_loss(logits[:, :2].sigmoid(), nn.functional.one_hot(own.targets, 2).double()).sum(1).mean()
    assert strategy.loss(own, logits, torch.tensor(99.0)).item() == pytest.approx(wanted.item(), rel=1e-10)


@torch.no_grad()
def test_the_nearest_mean_wins():
    strategy, inputs = second_task(capacity=10), data(3)[0]
    kept = strategy.buffer.columns
    means = []
    for c in (0, 1):
        features = [normalize(strategy.model[:2](x[None]))[0] for x in kept["inputs"][kept["targets"] == c]]
        means.append(normalize(torch.stack(features).mean(0), dim=0))
    own = normalize(strategy.model[:2](inputs))
    with strategy.serving(1) as predict:
        scores = predict(inputs)
    assert scores.shape == (30, 4)
    for c in (0, 1):
        torch.testing.assert_close(scores[:, c], -(own - means[c]).norm(dim=1))
    assert scores[:, 2:].eq(-torch.inf).all()


def test_before_the_first_task_the_network_itself_predicts():
    strategy = ICaRL(network())
    with strategy.serving(1) as predict:
        assert predict is strategy.model


def test_looking_leaves_no_hook_and_no_gradient():
    strategy = second_task()
    assert not any(m._forward_pre_hooks for m in strategy.model.modules())
    assert strategy.model.training
    assert not strategy.buffer.columns["inputs"].requires_grad


def test_the_layer_is_the_last_one_with_the_outputs():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4)).double()
    inputs = data(1)[0]
    features, logits = ICaRL(model)._look(inputs)
    torch.testing.assert_close(features, normalize(model[:2](inputs)))
    torch.testing.assert_close(logits, model(inputs))


def test_a_network_without_such_a_layer_is_refused_before_training():
    model = nn.Sequential(nn.Unflatten(1, (1, 3)), nn.Conv1d(1, 4, 3), nn.Flatten()).double()
    with pytest.raises(InputError, match="ends in a linear layer, here with 4 outputs"):
        ICaRL(model).check(pieces(1))
    ICaRL(network()).check(pieces(1))
