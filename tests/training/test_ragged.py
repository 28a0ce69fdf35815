"""A last batch of one example is refused before training where the model cannot train on it."""

import pytest

from cl_fisher.error import InputError

N = 1294
"""Training examples of permuted digits when a tenth is held out; 1293 = 3 * 431 leaves one over."""


@pytest.mark.parametrize("batchnorm", ["as_is", "frozen"])
def test_one_example_left_over_for_batch_norm(make_stream, batchnorm):
    stream = make_stream(norm=True, iterations=None, epochs=1, batch_size=431, batchnorm=batchnorm)
    before = {name: tensor.clone() for name, tensor in stream.model.state_dict().items()}
    with pytest.raises(InputError, match=f"batch_size=431: task 1 has {N} examples, so one is left over"):
        stream.check()
    assert all(tensor.equal(before[name]) for name, tensor in stream.model.state_dict().items())


@pytest.mark.parametrize(
    "options",
    [
        {"norm": True, "batch_size": 430, "epochs": 1, "iterations": None},
        {"norm": True, "batch_size": 431, "iterations": 3},
        {"norm": False, "batch_size": 431, "epochs": 1, "iterations": None},
    ],
    ids=["more than one left over", "never reached", "no batch norm"],
)
def test_what_can_be_trained_is_not_refused(make_stream, options):
    stream = make_stream(**options)
    stream.check()
    stream.train(stream.phases[0])
