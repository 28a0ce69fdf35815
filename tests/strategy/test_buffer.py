"""The memory of replay: what enters, what is drawn, and that it goes on where it stopped."""

import io

import pytest
import torch

from cl_fisher.error import InputError
from cl_fisher.strategy.batch import Batch
from cl_fisher.strategy.buffer import Buffer, replayed

LIKE = torch.empty(0)


def batch(positions, task=1, targets=None):
    """Examples whose only pixel says which they are."""
    p = torch.tensor(positions)
    return Batch(1000.0 * task + p[:, None], p % 3 if targets is None else targets, p, torch.full_like(p, task))


def held(buffer):
    return sorted(buffer.columns["inputs"].flatten().tolist())


def test_an_example_counts_once_however_often_it_comes():
    buffer = Buffer("reservoir", capacity=50)
    buffer.begin(1)
    for _ in range(3):
        buffer.see(batch([4, 2, 2, 7]))
        buffer.see(batch([-1, 9]))
    assert held(buffer) == [1002, 1004, 1007, 1009]
    assert buffer.state()["n_seen"] == 4
    buffer.begin(2)
    buffer.see(batch([4, 2], task=2))
    assert held(buffer) == [1002, 1004, 1007, 1009, 2002, 2004]


def test_a_second_epoch_changes_nothing():
    buffer = Buffer("reservoir", capacity=7)
    buffer.begin(1)
    for positions in torch.arange(40).split(8):
        buffer.see(batch(positions.tolist()))
    before = held(buffer)
    assert len(buffer) == 7
    for positions in torch.arange(40).flip(0).split(8):
        buffer.see(batch(positions.tolist()))
    assert held(buffer) == before


def test_what_is_kept_of_an_example_stays_together():
    buffer = Buffer("reservoir", capacity=10)
    for task in (1, 2):
        buffer.begin(task)
        for positions in torch.arange(60).split(9):
            b = batch(positions.tolist(), task)
            buffer.see(b, double=2 * b.inputs)
    kept = buffer.columns
    assert len(buffer) == 10
    assert torch.equal(kept["double"], 2 * kept["inputs"])
    assert torch.equal(kept["task"], kept["inputs"].flatten().long() // 1000)
    assert torch.equal(kept["targets"], kept["inputs"].flatten().long() % 1000 % 3)
    assert torch.equal(kept["entered"], kept["task"])


def filled(capacity=20, per_class=None, tasks=3, seed=0):
    buffer = Buffer("class_balanced", capacity, per_class, seed=seed)
    for task in range(1, tasks + 1):
        buffer.begin(task)
        pieces = [batch(p.tolist(), task, p % 2) for p in torch.arange(60).split(25)]
        buffer.take([(b.inputs, b.targets, b.position) for b in pieces])
    return buffer


@pytest.mark.parametrize(("capacity", "per_class", "shares"), [(20, None, {3, 4}), (6, None, {1}), (20, 8, {8})])
def test_classes_of_all_tasks_have_equal_shares(capacity, per_class, shares):
    buffer = filled(capacity, per_class)
    groups = torch.stack([buffer.columns["task"], buffer.columns["targets"]], 1)
    assert set(groups.unique(dim=0, return_counts=True)[1].tolist()) == shares
    assert len(buffer) == (capacity if per_class is None else 6 * per_class)
    assert len(set(held(buffer))) == len(buffer)


def test_a_memory_with_no_room_for_some_classes_says_so_once():
    with pytest.warns(UserWarning, match="capacity=3 is less than the 4 classes of all tasks so far") as said:
        buffer = filled(3)
    assert len(said) == 1
    assert len(buffer) == 3


def test_without_boundaries_an_example_is_taken_once_however_often_it_comes():
    buffer = Buffer("class_balanced", capacity=50)
    for task in (1, 2):
        buffer.begin(task)
        for _ in range(3):
            buffer.take([batch([4, 2, 7], task), batch([9], task)])
    assert held(buffer) == [1002, 1004, 1007, 1009, 2002, 2004, 2007, 2009]


def test_with_blurred_boundaries_an_example_is_of_its_own_task():
    buffer = Buffer("class_balanced", capacity=6)
    for phase in (1, 2):
        buffer.begin(phase)
        for task in (1, 2):
            buffer.take([batch(range(20 * phase, 20 * phase + 20), task)])
    assert torch.equal(buffer.columns["task"], buffer.columns["inputs"].flatten().long() // 1000)
    assert buffer.columns["task"].bincount().tolist() == [0, 3, 3]


def test_a_class_is_drawn_from_uniformly():
    counts = torch.zeros(3, 60)
    for seed in range(300):
        inputs = filled(18, tasks=3, seed=seed).columns["inputs"].flatten().long()
        counts[inputs // 1000 - 1, inputs % 1000] += 1
    expected = 300 * 18 / 180
    assert ((counts - expected) ** 2 / expected).sum() / (0.9 * 30 / 29) < 238  # 0.999 quantile, 174 degrees of freedom


@pytest.mark.parametrize(("replay", "numbers"), [("earlier", {1}), ("all", {1, 2})])
def test_what_is_replayed(replay, numbers):
    buffer = Buffer("reservoir", 40, replay=replay)
    assert buffer.draw(3, LIKE) is None
    for task in (1, 2):
        buffer.begin(task)
        if task == 1:
            buffer.see(batch(range(20), task))
            assert (buffer.draw(3, LIKE) is None) == (replay == "earlier")
    buffer.see(batch(range(20), 2))
    rows = buffer.draw(100, LIKE)
    assert set(rows["task"].tolist()) == numbers
    assert len(rows["inputs"].unique()) == len(rows["inputs"]) == 20 * len(numbers)
    assert len(buffer.draw(5, LIKE)["task"]) == 5
    assert replayed(rows).position.unique().tolist() == [-1]


def test_each_kept_example_is_drawn_as_often():
    buffer = filled(12)
    buffer.begin(4)
    drawn = torch.cat([buffer.draw(5, LIKE)["inputs"].flatten() for _ in range(480)])
    counts = drawn.unique(return_counts=True)[1]
    assert len(counts) == 12
    assert ((counts - 200.0) ** 2 / 200).sum() / (1 - 4 / 11) < 31.3  # 0.999 quantile, 11 degrees of freedom


def test_a_draw_has_the_type_that_is_asked_for():
    buffer = filled()
    buffer.begin(4)
    rows = buffer.draw(4, torch.empty(0, dtype=torch.float64))
    assert rows["inputs"].dtype == torch.float64
    assert rows["targets"].dtype == rows["task"].dtype == torch.int64


@pytest.mark.parametrize("memory", ["class_balanced", "reservoir"])
def test_it_goes_on_where_it_stopped(memory):
    def go(buffer, task):
        buffer.begin(task)
        drawn = []
        for positions in torch.arange(50).split(6):
            rows = buffer.draw(4, LIKE)
            drawn += [] if rows is None else rows["inputs"].flatten().tolist()
            buffer.see(batch(positions.tolist(), task))
        buffer.take([batch(range(50), task)])
        return drawn

    whole, resumed = Buffer(memory, 15, seed=3), Buffer(memory, 15, seed=3)
    go(whole, 1)
    file = io.BytesIO()
    torch.save(whole.state(), file)
    file.seek(0)
    resumed.restore(torch.load(file, weights_only=True))
    drawn = go(whole, 2)
    assert len(drawn) == 36
    assert drawn == go(resumed, 2)
    assert held(whole) == held(resumed)


def test_a_state_can_be_gone_back_to_twice():
    buffer = Buffer("reservoir", capacity=3)
    buffer.begin(1)
    buffer.see(batch([1, 2, 3]))
    state, before = buffer.state(), held(buffer)
    for _ in range(2):
        buffer.restore(state)
        assert held(buffer) == before
        buffer.begin(2)
        buffer.see(batch(list(range(100)), task=2))
        assert held(buffer) != before


def test_the_state_is_a_copy():
    buffer = Buffer("reservoir", 5)
    buffer.begin(1)
    buffer.see(batch(range(5)))
    state = buffer.state()
    buffer.see(batch(range(5, 400)))
    assert sorted(state["columns"]["inputs"].flatten().tolist()) == [1000, 1001, 1002, 1003, 1004] != held(buffer)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memory": "ring"}, "memory=ring is unknown: it must be one of class_balanced, reservoir"),
        ({"memory": "reservoir", "replay": "later"}, "replay=later is unknown"),
        ({"memory": "reservoir", "per_class": 3}, "per_class=3 needs memory=class_balanced"),
        ({"memory": "class_balanced", "replay": "all"}, "replay=all needs memory=reservoir"),
    ],
)
def test_options_that_do_not_go_together(options, message):
    with pytest.raises(InputError, match=message):
        Buffer(capacity=10, **options)
