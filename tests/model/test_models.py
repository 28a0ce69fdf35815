"""What holds for every network that can be chosen: outputs, the Fisher, refusals, and a run from the command line."""

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import nn

from cl_fisher.cli import job
from cl_fisher.config import build, conf_dir, register_resolvers, validate
from cl_fisher.error import InputError
from cl_fisher.event import RunStarted
from cl_fisher.fisher import estimate_fisher
from cl_fisher.fisher.reference import brute_force
from cl_fisher.model.output_layer import output_layer

TINY = {
    "convnet": ["model.channels=[2,3]", "model.hidden=[4]", "model.kernel=3"],
    "lora": ["model.base.hidden=[4]", "model.rank=2"],
    "mlp": ["model.hidden=[4]"],
    "resnet18": ["model.width=1"],
    "resnet18_reduced": ["model.width=1"],
    "resnet32": ["model.width=1", "model.depth=20"],
    "timm": ["+model.channels=[2,2,2,2]", "+model.layers=[1,1,1,1]", "+model.stem_width=2"],
    "vit_tiny": ["model.width=4", "model.depth=1", "model.heads=2"],
}
PACKAGES = {"lora": "peft", "timm": "timm"}
EVERY = pytest.mark.parametrize("choice", TINY)


@pytest.fixture(autouse=True)
def _installed(request):
    if "choice" in request.fixturenames and (package := PACKAGES.get(request.getfixturevalue("choice"))):
        pytest.importorskip(package)


def composed(choice, *overrides):
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("config", [f"model={choice}", *TINY[choice], *overrides])


def made(choice, input_shape, n_outputs=7):
    torch.manual_seed(0)
    return build(composed(choice).model, input_shape=input_shape, n_outputs=n_outputs)


def test_every_choice_is_here():
    assert sorted(TINY) == sorted(path.stem for path in (conf_dir() / "model").glob("*.yaml"))


@pytest.mark.parametrize("input_shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32)])
@EVERY
def test_outputs(choice, input_shape):
    model = made(choice, input_shape)
    assert all(module.training for module in model.modules())
    assert model(torch.zeros(2, *input_shape)).shape == (2, 7)
    layer = output_layer(model, 7)
    assert layer is not None
    assert all(p.requires_grad for p in layer.parameters())


@EVERY
def test_the_diagonal_fisher_is_that_of_brute_force(choice):
    model = made(choice, (1, 8, 8), 3).double().eval()
    for p in model.parameters():
        nn.init.normal_(p, std=0.3)  # no layer at zero
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.5, 2)
    inputs = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    found = estimate_fisher(model, [(inputs, torch.zeros(2, dtype=torch.long))]).diagonal()
    assert list(found) == [name for name, p in model.named_parameters() if p.requires_grad]
    flat = torch.cat([f.flatten() for f in found.values()])
    torch.testing.assert_close(flat, brute_force(model, inputs).diagonal(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("choice", sorted(TINY.keys() - {"mlp", "lora"}))
def test_other_inputs_than_images_are_refused(choice):
    name = "resnet20" if choice == "resnet32" else choice.removesuffix("_reduced")
    with pytest.raises(InputError, match=rf"^model={name} needs images .* shape \[2\]: choose .*$"):
        made(choice, (2,))


@EVERY
def test_a_run(choice):
    cfg = composed(choice, "n_tasks=2", "iterations=2", "batch_size=16", "fisher.samples=20", "logger=none")
    validate(cfg)
    job.check(cfg)
    summary = job.assemble(cfg).run(RunStarted(2, 2, {}, {}))
    assert summary["final"]
    assert summary["global_step"] == 4
