"""Networks of timm."""

import sys

import pytest
import torch

from cl_fisher.error import InputError
from cl_fisher.model.timm import timm_network


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"needs the package timm: pip install 'cl_fisher\[timm\]'"):
        timm_network((1, 8, 8), 3)


def test_an_image_size_where_the_network_has_only_one():
    pytest.importorskip("timm")
    small = {"patch_size": 4, "embed_dim": 6, "depth": 1, "num_heads": 2}
    model = timm_network((1, 12, 12), 3, "vit_tiny_patch16_224", **small)
    assert model(torch.zeros(2, 1, 12, 12)).shape == (2, 3)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("rezet18", {}, "model.name=rezet18: timm has no such network; did you mean 'resnet18'"),
        ("resnet18", {"foo": 3}, "model.name=resnet18: .*unexpected keyword argument 'foo'"),
        ("vit_tiny_patch16_224", {"depth": 1}, "model.name=vit_tiny_patch16_224 cannot take images of 1x8x8 "),
        ("resnet10t", {"pretrained": True}, "model.pretrained=true: the weights of resnet10t are not in the cache"),
    ],
)
def test_what_cannot_be(name, options, message, monkeypatch):
    pytest.importorskip("timm")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=message) as caught:
        timm_network((1, 8, 8), 3, name, **options)
    assert "\n" not in str(caught.value)


def test_two_output_layers():
    """Rows of earlier tasks would be frozen in one of them only, and LoRA would leave the other one as it was drawn."""
    pytest.importorskip("timm")
    small = {"patch_size": 4, "embed_dim": 6, "depth": 1, "num_heads": 2}
    with pytest.raises(InputError, match=r"deit_tiny_distilled_patch16_224: it has several output layers"):
        timm_network((1, 12, 12), 3, "deit_tiny_distilled_patch16_224", **small)


def test_an_output_layer_that_is_not_linear(monkeypatch):
    timm = pytest.importorskip("timm")
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: torch.nn.Conv2d(1, 3, 8))
    with pytest.raises(InputError, match=r"model.name=resnet18: its output layer is no nn.Linear"):
        timm_network((1, 8, 8), 3)
