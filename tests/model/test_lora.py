"""Low-rank adapters: what they compute, what learns, and what EWC holds."""

import copy
import sys
from functools import partial

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import nn

from cl_fisher.cli import job
from cl_fisher.config import conf_dir, register_resolvers
from cl_fisher.error import InputError
from cl_fisher.event import RunStarted
from cl_fisher.model.convnet import ConvNet
from cl_fisher.model.lora import lora
from cl_fisher.model.mlp import MLP
from cl_fisher.model.resnet import ResNet
from cl_fisher.model.timm import timm_network
from cl_fisher.model.vit_tiny import vit_tiny

BASES = {
    "mlp": partial(MLP, hidden=[6, 5]),
    "convnet": partial(ConvNet, channels=[2, 3], hidden=[4], kernel=3),
    "resnet": partial(ResNet, depth=20, width=2),
    "vit_tiny": partial(vit_tiny, width=6, depth=1, heads=2),
}
SHAPE = (1, 8, 8)


@pytest.fixture(autouse=True)
def _peft():
    pytest.importorskip("peft")


def seeded(make, *args, **options):
    torch.manual_seed(0)
    return make(*args, **options)


def composed(*overrides):
    register_resolvers()
    small = ["model=lora", "n_tasks=2", "iterations=4", "logger=none", "fisher.samples=30", "checkpoint=none"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("config", [*small, *overrides])


@pytest.mark.parametrize("base", BASES)
def test_it_starts_as_its_base_and_only_adapters_and_the_output_layer_learn(base):
    plain = seeded(BASES[base], SHAPE, 3).eval()
    model = seeded(lora, SHAPE, 3, BASES[base], rank=2).eval()
    inputs = torch.randn(4, *SHAPE)
    assert torch.equal(model(inputs), plain(inputs))
    *_, weight, bias = (name for name, _ in plain.named_parameters())
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {name for name in learning if "lora_" not in name} == {weight, bias}
    adapted = [m for m in plain.modules() if type(m) in (nn.Linear, nn.Conv2d)][:-1]
    assert len(learning) == 2 + 2 * len(adapted)


def test_an_update_is_a_scaled_product():
    model = seeded(lora, SHAPE, 3, BASES["mlp"], rank=2, alpha=6).eval()
    plain = seeded(BASES["mlp"], SHAPE, 3).eval()
    for name, p in model.named_parameters():
        if "lora_" in name:
            nn.init.normal_(p)
    weights = dict(model.named_parameters())
    with torch.no_grad():
        for layer in ("1", "3"):
            a, b = (weights[f"{layer}.lora_{part}.default.weight"] for part in "AB")
            plain.get_submodule(layer).weight += 6 / 2 * b @ a
    inputs = torch.randn(4, *SHAPE)
    torch.testing.assert_close(model(inputs), plain(inputs))


@pytest.mark.parametrize(("targets", "n"), [(["mlp.0"], 1), (["mlp.0", "mlp.3"], 2), (["0"], 1), (["conv_proj"], 1)])
def test_targets_by_the_end_of_their_names(targets, n):
    model = lora(SHAPE, 3, BASES["vit_tiny"], rank=2, targets=targets)
    assert sum("lora_A" in name for name, _ in model.named_parameters()) == n


VIT = ["model@model.base=vit_tiny", "model.base.width=12", "model.base.depth=1", "model.base.patch=8"]


@pytest.mark.parametrize("base", [["model.base.hidden=[8]"], VIT], ids=["mlp", "vit_tiny"])
def test_ewc_on_two_tasks_leaves_the_base_alone_bit_for_bit(base):
    stream = job.assemble(composed(*base, "model.rank=2"))
    before = copy.deepcopy(dict(stream.model.named_parameters()))
    summary = stream.run(RunStarted(2, 2, {}, {}))
    after = dict(stream.model.named_parameters())
    assert summary["final"]
    assert list(before) == list(after)
    learning = [name for name, p in after.items() if p.requires_grad]
    for name, p in after.items():
        assert torch.equal(p, before[name]) == (name not in learning), name
        assert p.requires_grad or p.grad is None
    penalty = stream.strategy.quadratic
    assert penalty.n_tasks == 2
    assert list(penalty.centre) == learning
    again = job.assemble(composed(*base, "model.rank=2"))
    again.load_state_dict(stream.state_dict())
    assert again.strategy.penalty() == pytest.approx(stream.strategy.penalty())
    assert again.strategy.quadratic.centre.keys() == set(learning)


class Odd(nn.Module):
    """A layer whose weight alone is used, one whose branch is shut off, a norm that lets nothing through."""

    def __init__(self, n_outputs, **_):
        super().__init__()
        self.first, self.unused = nn.Linear(64, 6), nn.Linear(6, 6)
        self.shut, self.gain = nn.Linear(6, 6), nn.Parameter(torch.zeros(()))
        self.behind, self.norm = nn.Linear(6, 6), nn.BatchNorm1d(6)
        nn.init.zeros_(self.norm.weight)
        self.head = nn.Linear(6, n_outputs)
        nn.init.zeros_(self.head.weight)

    def forward(self, inputs):
        x = self.first(inputs.flatten(1))
        x = nn.functional.linear(x, self.unused.weight)
        x = x + self.gain * self.shut(x)
        return self.head(x + self.norm(self.behind(x)))


def adapted(model):
    return [name.removesuffix(".lora_A.default.weight") for name, _ in model.named_parameters() if "lora_A" in name]


def test_adapters_are_where_they_can_act():
    model = seeded(lora, SHAPE, 3, Odd, rank=2)
    assert adapted(model) == ["first", "behind"]
    assert model.norm.weight.eq(1).all()
    assert not model.head.weight.any()
    assert all(p.grad is None for p in model.parameters())
    assert all(m.training for m in model.modules())


@pytest.mark.parametrize("name", ["unused", "shut"])
def test_a_target_through_which_no_adapter_could_act_is_refused(name):
    with pytest.raises(InputError, match=f"an adapter could not act through {name}, which .* there are first, behind"):
        lora(SHAPE, 3, Odd, targets=["first", name])


@pytest.mark.parametrize(
    ("name", "options", "n"),
    [
        ("resnet10t", {}, 14),
        ("beit_base_patch16_224", {"patch_size": 8, "embed_dim": 12, "depth": 1, "num_heads": 2}, 4),
    ],
)
def test_in_a_network_of_timm_every_adapter_learns(name, options, n):
    pytest.importorskip("timm")
    model = seeded(lora, (3, 16, 16), 3, partial(timm_network, name=name, **options), rank=2)
    for key, p in model.named_parameters():
        if "lora_B" in key:
            nn.init.normal_(p)
    model.eval()(torch.randn(4, 3, 16, 16)).logsumexp(1).sum().backward()
    gradients = [p.grad for key, p in model.named_parameters() if "lora_" in key]
    assert len(gradients) == 2 * n
    assert all(g is not None and g.any() for g in gradients)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base": "mlp"}, "model.base=mlp: .* write model@model.base=mlp"),
        ({"base": partial(MLP, hidden=[])}, "no layer beside its output layer"),
        ({"targets": ["x"]}, r"model.targets=\['x'\]: no layer is called so; there are 1, 3"),
        ({"rank": 0}, "rank=0"),
        ({"base": lambda **_: nn.Linear(2, 4)}, "ends in a linear layer with 3 outputs"),
    ],
)
def test_what_cannot_be(options, message):
    with pytest.raises(InputError, match=message):
        lora(SHAPE, 3, **{"base": BASES["mlp"], **options})


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(InputError, match=r"needs the package peft: pip install 'cl_fisher\[lora\]'"):
        lora(SHAPE, 3, BASES["mlp"])


def test_adapters_in_adapters_are_refused():
    with pytest.raises(InputError, match="needs a base without adapters"):
        lora(SHAPE, 3, partial(lora, base=BASES["mlp"]))
