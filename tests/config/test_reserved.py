import inspect

import pytest
from hydra.utils import get_object

from cl_fisher.config.reserved import INSTEAD, refusal

OPTIONS = [(path, key) for path, told in INSTEAD.items() for names in told for key in names.split()]
TARGETS = {
    "trainer": "lightning.pytorch.Trainer",
    "benchmark": "cl_fisher.benchmark.split.split",
    "model": "cl_fisher.model.mlp.MLP",
    "strategy": "cl_fisher.strategy.ewc.EWC",
    "logger": "cl_fisher.reporting.logger.wandb.WandbLogger",
}


@pytest.mark.parametrize(("path", "key"), OPTIONS)
def test_a_reserved_option_exists_and_is_refused(path, key):
    assert key in inspect.signature(get_object(TARGETS[path])).parameters
    assert str(refusal(path, key)).startswith(f"{path}.{key} is set by the run itself; ")


@pytest.mark.parametrize(
    ("path", "key"), [("trainer", "deterministic"), ("trainer", "max"), ("model", "seed"), ("a", "b")]
)
def test_others_are_free(path, key):
    assert refusal(path, key) is None
