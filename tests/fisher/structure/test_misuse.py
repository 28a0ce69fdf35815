"""What cannot be meant is refused in one line, the same for every structure."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from cl_fisher.error import InputError
from cl_fisher.fisher import estimate_fisher, load_fisher
from cl_fisher.fisher.estimate import STRUCTURES
from cl_fisher.strategy.ewc import EWC
from cl_fisher.strategy.online_ewc import OnlineEWC

MATRICES = [name for name in STRUCTURES if name != "identity"]
BATCHES = [(torch.randn(9, 6, generator=torch.Generator().manual_seed(0)), torch.arange(9) % 4)]

BATCHES_OF_3 = [(BATCHES[0][0], BATCHES[0][1] % 3)]


def network():
    torch.manual_seed(0)
    return nn.Linear(6, 4)


def fisher(structure="diagonal"):
    return estimate_fisher(network(), BATCHES, structure=structure)


@pytest.mark.parametrize("structure", MATRICES)
@pytest.mark.parametrize(
    ("vector", "message"),
    [
        ({"weight": torch.ones(6, 4), "bias": torch.ones(4)}, r"weight has shape \(6, 4\).*\(4, 6\)"),
        ({"weight": torch.ones(4, 1), "bias": torch.ones(4)}, r"weight has shape \(4, 1\).*\(4, 6\)"),
        ({"weight": torch.ones(4, 6)}, "bias is missing"),
    ],
    ids=["transposed", "broadcast", "missing"],
)
def test_directions_have_the_parameters_shapes(structure, vector, message):
    matrix = fisher(structure)
    for operation in (matrix.mv, matrix.quadratic, lambda v: matrix.solve(v, 0.1)):
        with pytest.raises(InputError, match=message):
            operation(vector)


@pytest.mark.parametrize("structure", MATRICES)
def test_sums_and_multiples(structure):
    matrix = fisher(structure)
    torch.testing.assert_close(sum([matrix, matrix]).to_dense(), (2 * matrix).to_dense())
    for wrong in (-1, float("nan"), float("inf")):
        with pytest.raises(InputError, match=f"{wrong}.*at least 0"):
            matrix * wrong
    another = "dense" if structure == "diagonal" else "diagonal"
    with pytest.raises(InputError, match=f"{structure} and {another} do not add up"):
        matrix + fisher(another)
    with pytest.raises(InputError, match=f"{another} and {structure} do not add up"):
        fisher(another) + matrix
    with pytest.raises(TypeError):
        matrix + "a"


@pytest.mark.parametrize("structure", MATRICES)
@pytest.mark.parametrize("other", [nn.Linear(1, 4), nn.Linear(6, 4, bias=False), nn.Sequential(nn.Linear(6, 4))])
def test_fishers_of_other_parameters_do_not_add_up(structure, other):
    """They would be broadcast, or lose the parameters of one."""
    inputs, targets = BATCHES[0]
    n_inputs = next(other.parameters()).shape[1]
    strange = estimate_fisher(other, [(inputs[:, :n_inputs], targets)], structure=structure)
    ours = fisher(structure)
    for one, two in ((ours, strange), (strange, ours)):
        with pytest.raises(InputError, match=r"differ in parameter (0.)?(weight|bias), one of shape|one without it"):
            one + two


@pytest.mark.parametrize("structure", MATRICES)
def test_a_damping_is_not_negative(structure):
    with pytest.raises(InputError, match="damping=-1"):
        fisher(structure).solve({"weight": torch.ones(4, 6), "bias": torch.ones(4)}, -1.0)


@pytest.mark.parametrize("structure", MATRICES)
def test_what_is_singular_is_not_inverted(structure):
    """No infinite entries, and no matrix less than F."""
    torch.manual_seed(0)
    dead = nn.Sequential(nn.Linear(6, 4), nn.Hardtanh(-1.0, -0.9), nn.Linear(4, 3))
    dead[0].bias.data.fill_(99.0)
    matrix, v = estimate_fisher(dead, BATCHES_OF_3, structure=structure), dict(dead.named_parameters())
    for operation in (matrix.sample, lambda _, damping: matrix.solve(v, damping), lambda _, d: matrix.logdet(d)):
        for damping, message in ((0.0, "damping"), (-1e-9, "damping=-1e-09 ")):
            with pytest.raises(InputError, match=message):
                operation(1, damping)


@pytest.mark.parametrize("strategy", [EWC, OnlineEWC])
def test_tasks_of_two_structures_are_not_put_together(strategy):
    one, two = strategy(network()), strategy(network(), structure="kronecker")
    one.consolidate(BATCHES)
    two.load_state_dict(one.state_dict())
    with pytest.raises(InputError, match=r"diagonal.*kronecker"):
        two.consolidate(BATCHES)
    with pytest.raises(InputError, match=r"state.*precision"):
        two.load_state_dict({})


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="no folder"):
        fisher().save(tmp_path / "missing" / "fisher.safetensors")
    with pytest.raises(InputError, match="a folder; the name of a file"):
        fisher().save(tmp_path)


def test_a_file_of_another_version(tmp_path):
    save_file(
        {"a": torch.ones(1)}, tmp_path / "f", {"cl_fisher": '{"kind": "new", "names": [], "info": {}, "form": {}}'}
    )
    with pytest.raises(InputError, match="kept as new"):
        load_fisher(tmp_path / "f")


def test_implicit_is_estimated_in_inference_mode_and_with_errors_beside_it():
    batches, model = BATCHES * 20, network()
    trace = fisher().trace()
    with torch.inference_mode():
        matrix = estimate_fisher(model, batches, structure="implicit")
        assert matrix.trace() == pytest.approx(trace, rel=1e-5)
        assert float(matrix.to_dense().trace()) == pytest.approx(trace, rel=1e-5)
    both = estimate_fisher(network(), batches, structure="implicit", standard_error=True)
    alone = estimate_fisher(network(), batches, standard_error=True)
    assert both.info["relative_error"] == pytest.approx(alone.info["relative_error"])


@pytest.mark.parametrize("classes", [4, [0.0, 1.0], ["a"]])
def test_classes_are_whole_numbers(classes):
    with pytest.raises(InputError, match=r"classes=.*list of output indices"):
        estimate_fisher(network(), BATCHES, classes=classes)


def test_too_few_examples_to_stop_early_is_said():
    with pytest.warns(UserWarning, match=r"until=0.3.*8 groups"):
        estimate_fisher(network(), BATCHES, until=0.3)


def test_a_model_that_counts_its_passes_is_not_said_to_draw():
    class Counting(nn.Linear):
        def __init__(self):
            super().__init__(6, 4)
            self.register_buffer("count", torch.zeros(()))

        def forward(self, x):
            self.count += 1
            return super().forward(x) * self.count

    with pytest.raises(InputError, match="changes a buffer"):
        estimate_fisher(Counting(), BATCHES)


def test_a_model_made_in_inference_mode_has_no_gradients():
    with torch.inference_mode():
        model = network()
    with pytest.raises(InputError, match="made in inference mode"):
        estimate_fisher(model, BATCHES)
