"""EWCCallback in somebody else's Lightning project, with both names that Lightning goes by."""

import copy
import importlib

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from cl_fisher import EWC, EWCCallback
from cl_fisher.error import InputError

PACKAGES = ["lightning.pytorch", "pytorch_lightning"]
QUIET = {
    "accelerator": "cpu", "devices": 1, "logger": False, "enable_checkpointing": False,
    "enable_progress_bar": False, "enable_model_summary": False,
}  # fmt: skip

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:.*litlogger.*"),
]


def loader(task):
    generator = torch.Generator().manual_seed(task)
    data = TensorDataset(torch.randn(40, 4, generator=generator), torch.randint(0, 3, (40,), generator=generator))
    return DataLoader(data, batch_size=16)


def project(pl):
    """A module as people write them: own logging, own optimizer, dropout."""

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 3))

        def forward(self, x):
            return self.net(x)

        def training_step(self, batch, _batch_idx):
            x, y = batch
            return cross_entropy(self(x), y)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    return Module()


def fit(pl, module, callback, task, **options):
    torch.manual_seed(task)
    trainer = pl.Trainer(max_epochs=3, callbacks=[callback] if callback else [], **{**QUIET, **options})
    trainer.fit(module, loader(task))
    return trainer


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("online", [False, True])
def test_each_fit_is_a_task(package, online):
    pl = importlib.import_module(package)
    module, callback = project(pl), EWCCallback(strength=50.0, online=online)
    for task in range(3):
        fit(pl, module, callback, task)
        assert callback.ewc.quadratic.n_tasks == task + 1
        assert module.training
    assert callback.ewc.quadratic.precision.trace() > 0


@pytest.mark.parametrize("package", PACKAGES)
def test_the_second_fit_is_the_plain_loop_with_ewc(package):
    pl = importlib.import_module(package)
    module, callback = project(pl), EWCCallback(strength=5.0)
    fit(pl, module, callback, 0)
    twin = copy.deepcopy(module.net)
    ewc = EWC(twin, strength=5.0)
    ewc.consolidate(loader(0))
    fit(pl, module, callback, 1)

    torch.manual_seed(1)
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1)
    for _ in range(3):
        for x, y in loader(1):
            optimizer.zero_grad()
            cross_entropy(twin(x), y).backward()
            ewc.add_gradient()
            optimizer.step()
    for a, b in zip(module.net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("package", PACKAGES)
def test_no_strength_changes_nothing(package):
    pl = importlib.import_module(package)
    plain, module, callback = project(pl), project(pl), EWCCallback(strength=0.0)
    for task in range(2):
        fit(pl, plain, None, task)
        fit(pl, module, callback, task)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), module.parameters(), strict=True))


@pytest.mark.parametrize("package", PACKAGES)
def test_penalty_enters_before_clipping_and_once_under_accumulation(package):
    pl = importlib.import_module(package)
    module, callback = project(pl), EWCCallback(strength=1e6)
    fit(pl, module, callback, 0)
    calls, norms = [], []
    plain = callback.ewc.add_gradient
    callback.ewc.add_gradient = lambda: (calls.append(1), plain())
    module.on_before_zero_grad = lambda _: norms.append(
        sum(p.grad.square().sum() for p in module.parameters() if p.grad is not None) ** 0.5
    )
    fit(pl, module, callback, 1, gradient_clip_val=0.5, accumulate_grad_batches=2)
    assert len(calls) == 6  # 3 epochs of 3 batches, two accumulated and the rest of one
    assert max(norms) <= 0.5 + 1e-4


@pytest.mark.parametrize("package", PACKAGES)
def test_state_travels_in_lightnings_checkpoint(package, tmp_path):
    pl = importlib.import_module(package)
    module, callback = project(pl), EWCCallback()
    trainer = fit(pl, module, callback, 0)
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    module, restored = project(pl), EWCCallback()
    trainer = pl.Trainer(max_epochs=4, callbacks=[restored], **QUIET)
    trainer.fit(module, loader(0), ckpt_path=tmp_path / "one.ckpt")
    assert restored.ewc.quadratic.n_tasks == 2


def test_penalty_is_logged(tmp_path):
    import lightning.pytorch as pl
    from lightning.pytorch.loggers import CSVLogger

    module, callback = project(pl), EWCCallback(strength=50.0)
    for task in range(2):
        trainer = fit(pl, module, callback, task, logger=CSVLogger(tmp_path), log_every_n_steps=1)
    assert float(trainer.logged_metrics["ewc_penalty"]) > 0


@pytest.mark.parametrize("options", [{"strength": -1}, {"online": True, "gamma": 2.0}, {"samples": 0}])
def test_bad_options(options):
    with pytest.raises(InputError, match="out of range"):
        EWCCallback(**options)


def test_an_unknown_option_is_refused_at_once():
    with pytest.raises(TypeError, match="strenght"):
        EWCCallback(strenght=1.0)
