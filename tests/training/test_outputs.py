"""A model that does not fit the tasks is refused before training, whatever the strategy."""

import pytest
import torch
from torch import nn

from cl_fisher.error import InputError
from cl_fisher.strategy.ewc import EWC
from cl_fisher.strategy.finetune import Finetune
from cl_fisher.training.stream import Stream

STRATEGIES = pytest.mark.parametrize("strategy", [EWC, Finetune])


class OnlyInTraining(nn.Linear):
    """Something beside the logits, as long as it is trained."""

    def forward(self, inputs):
        logits = super().forward(inputs)
        return (logits, logits) if self.training else logits


def with_end(stream, end):
    """The stream, with another last layer in its network."""
    model = nn.Sequential(*list(stream.model)[:-1], end)
    strategy = type(stream.strategy)(model)
    return Stream(
        stream.sequence, model, strategy, stream._make_optimizer, stream._make_trainer, stream.settings, []
    )  # fmt: skip


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (nn.Linear(16, 9), r"model: Sequential makes outputs of shape \[2, 9\] of .* \[2, 1, 8, 8\]; .* \[2, 10\]"),
        (nn.Linear(16, 11), r"outputs of shape \[2, 11\]"),
        (nn.Sequential(nn.Linear(16, 10), nn.Flatten(0)), r"outputs of shape \[20\]"),
        (OnlyInTraining(16, 10), "makes a tuple of inputs"),
        (nn.Linear(17, 10), r"cannot take torch.float32 inputs of shape \[2, 1, 8, 8\] \(mat1 and mat2"),
        (nn.Linear(16, 10).double(), r"cannot take torch.float32 inputs .*dtype"),
    ],
    ids=["too few", "too many", "flat", "tuple", "other size", "other type"],
)
@STRATEGIES
def test_a_model_that_does_not_fit(make_stream, strategy, end, message):
    """The classes of the first task alone would do with nine outputs."""
    stream = with_end(make_stream(strategy, benchmark="split", scenario="task", n_tasks=5), end)
    with pytest.raises(InputError, match=message) as caught:
        stream.check()
    assert "\n" not in str(caught.value)


@STRATEGIES
@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-true", "bf16-mixed"])
def test_looking_leaves_no_trace(make_stream, strategy, precision):
    stream = make_stream(strategy, norm=True, dropout=True, trainer={"precision": precision})
    before = {name: tensor.clone() for name, tensor in stream.model.state_dict().items()}
    drawn = torch.get_rng_state()
    stream.check()
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(module.training for module in stream.model.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in stream.model.state_dict().items())
    stream.train(stream.phases[0])


def test_a_trainer_that_needs_a_package(make_stream):
    def needy(**_):
        raise ModuleNotFoundError("Requirement 'torch_xla>=1.13' not met. HINT: install it")

    stream = make_stream()
    stream._make_trainer = needy
    with pytest.raises(InputError, match=r"^trainer: Requirement 'torch_xla>=1.13' not met"):
        stream.check()
