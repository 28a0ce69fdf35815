"""What is tried before training is what will be done after it."""

import pytest
import torch
from torch import nn

from cl_fisher.benchmark.task import Scenario
from cl_fisher.error import InputError
from cl_fisher.event import RunStarted
from cl_fisher.strategy.ewc import EWC
from cl_fisher.training.consolidation import stirred


def test_a_layer_behind_an_output_layer_at_zero_is_tried_too(make_stream):
    """As in a vision transformer: layer norm has no Kronecker form, but gets no gradient at first."""
    stream = make_stream(options={"structure": "kronecker"})
    stream.model.insert(2, nn.LayerNorm(16))
    nn.init.zeros_(stream.model[-1].weight)
    with pytest.raises(InputError, match=r"2.weight has no Kronecker form"):
        stream.check()
    assert not stream.model[-1].weight.any()


def test_only_zeros_are_stirred_and_they_come_back():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2), nn.LazyLinear(4))
    nn.init.zeros_(model[1].weight)
    before = [p.clone() for layer in model[:2] for p in layer.parameters()]
    with stirred(model, seed=0):
        changed = [not torch.equal(p, b) for p, b in zip(model[:2].parameters(), before, strict=True)]
    assert changed == [False, False, True, False]
    assert all(torch.equal(p, b) for p, b in zip(model[:2].parameters(), before, strict=True))


class Shown(EWC):
    """Keeps what it was shown, (task, position) of each example."""

    def consolidate(self, batches, classes=None):
        self.__dict__.setdefault("shown", []).append(
            [pair for *_, position, task in batches for pair in zip(task.tolist(), position.tolist(), strict=True)]
        )
        return super().consolidate(batches, classes)


class Remembering(Shown):
    remembers = True


def shown(stream):
    stream.run(RunStarted(2, 2, {}, {}))
    return stream.strategy.shown


@pytest.mark.parametrize("every", [None, 6])
def test_samples_are_drawn_from_all_that_could_be_read(make_stream, every):
    """Not the first ones: data sets may be sorted by class, and a blurred phase has the tasks one behind the other."""
    stream = make_stream(Shown, scenario=Scenario("domain", blur=0.4), fisher_samples=100, consolidate_every=every)
    for found, phase in zip(shown(stream), stream.phases, strict=True):
        assert len(set(found)) == 100
        assert {number for number, _ in found} == {1, 2}
        for number in (1, 2):
            positions = torch.tensor([position for n, position in found if n == number])
            assert positions.max() > len(phase.data[number]) * 2 / 3


def test_a_strategy_that_remembers_is_shown_all_and_estimates_from_as_many_as_asked(make_stream):
    few = make_stream(Shown, fisher_samples=100)
    all_ = make_stream(Remembering, fisher_samples=100, options={"samples": 100})
    for some, every, task in zip(shown(few), shown(all_), few.sequence.tasks, strict=True):
        assert every[:100] == some
        assert len(set(every)) == len(every) == len(task.train)
    weights = zip(few.model.parameters(), all_.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in weights)


def test_an_estimate_that_may_stop_early_reads_in_random_order(make_stream):
    in_order, shuffled = (shown(make_stream(Shown, fisher_shuffled=s))[0] for s in (False, True))
    assert sorted(shuffled) == in_order
    assert shuffled[:50] != in_order[:50]
