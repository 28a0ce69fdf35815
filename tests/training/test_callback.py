"""EWCCallback in somebody else's Lightning project, with both names that Lightning goes by."""

import copy
import importlib
import subprocess
import sys
from pathlib import Path

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


@pytest.mark.parametrize("step", ["gradient", "proximal"])
@pytest.mark.parametrize("package", PACKAGES)
def test_the_second_fit_is_the_plain_loop_with_ewc(package, step):
    pl = importlib.import_module(package)
    module, callback = project(pl), EWCCallback(strength=5.0, step=step)
    fit(pl, module, callback, 0)
    twin = copy.deepcopy(module.net)
    ewc = EWC(twin, strength=5.0, step=step)
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
            ewc.after_step(optimizer)
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
    callback.ewc.add_gradient = lambda parameters: (calls.append(1), plain(parameters))
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


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
@pytest.mark.filterwarnings("ignore:You.re resuming from a checkpoint that ended before the epoch")
@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("written", ["step=5", "step=9", "epoch=0", "epoch=2"])
def test_a_fit_that_goes_on_consolidates_all_that_it_was_trained_on(package, written, tmp_path):
    """Also from a checkpoint of the last step or the last epoch, with nothing left to train."""
    pl = importlib.import_module(package)
    module, callback = project(pl), EWCCallback()
    fit(pl, module, callback, 0)
    when = {"step": {"every_n_train_steps": 1}, "epoch": {"every_n_epochs": 1}}[written[:-2]]
    writer = pl.callbacks.ModelCheckpoint(tmp_path, f"{{{written[:-2]}}}", save_top_k=-1, **when)
    trainer = pl.Trainer(max_epochs=3, callbacks=[callback, writer], **QUIET | {"enable_checkpointing": True})
    trainer.fit(module, loader(1))
    module, restored = project(pl), EWCCallback()
    read, plain = [], restored.ewc.consolidate
    restored.ewc.consolidate = lambda batches, **options: plain(read.append(list(batches)) or read[-1], **options)
    trainer = pl.Trainer(max_epochs=3, callbacks=[restored], **QUIET)
    trainer.fit(module, loader(1), ckpt_path=tmp_path / f"{written}.ckpt")
    assert [len(batches) for batches in read] == [3]
    assert restored.ewc.quadratic.n_tasks == 2


@pytest.mark.parametrize("package", PACKAGES)
def test_a_fit_without_a_step_is_told(package, tmp_path):
    pl = importlib.import_module(package)
    module, callback = project(pl), EWCCallback()
    trainer = fit(pl, module, callback, 0)
    trainer.save_checkpoint(tmp_path / "done.ckpt")
    with pytest.warns(UserWarning, match="took no step, .* a new task needs a new Trainer"):
        trainer.fit(module, loader(1))
    with pytest.warns(UserWarning, match="no ckpt_path of a fit that has ended"):
        pl.Trainer(max_epochs=3, callbacks=[callback], **QUIET).fit(module, loader(1), ckpt_path=tmp_path / "done.ckpt")
    assert callback.ewc.quadratic.n_tasks == 1


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


@pytest.mark.parametrize("package", PACKAGES)
def test_consolidated_on_what_was_trained_on(package):
    """As many batches, through the same hooks."""
    pl = importlib.import_module(package)
    module, callback = project(pl), EWCCallback()
    seen, plain = [], callback.ewc.consolidate
    callback.ewc.consolidate = lambda batches, **options: plain(seen.append(list(batches)) or seen[-1], **options)
    module.on_after_batch_transfer = lambda batch, _: (batch[0] * 10, batch[1])
    fit(pl, module, callback, 0, limit_train_batches=2)
    assert len(seen[0]) == 2
    assert torch.equal(seen[0][0][0], next(iter(loader(0)))[0] * 10)


@pytest.mark.parametrize("package", PACKAGES)
def test_targets_that_do_not_fit_are_found_at_the_first_batch(package):
    pl = importlib.import_module(package)
    module, callback = project(pl), EWCCallback(classes=[0, 1])
    steps = []
    module.on_train_batch_end = lambda *_: steps.append(1)
    with pytest.raises(InputError, match="class"):
        fit(pl, module, callback, 0)
    assert len(steps) <= 1


@pytest.mark.parametrize("package", PACKAGES)
def test_an_endless_stream_ends(package):
    pl = importlib.import_module(package)

    class Endless(torch.utils.data.IterableDataset):
        def __iter__(self):
            while True:
                yield torch.randn(4), torch.tensor(1)

    module, callback = project(pl), EWCCallback()
    trainer = pl.Trainer(max_steps=3, max_epochs=-1, callbacks=[callback], **QUIET)
    trainer.fit(module, DataLoader(Endless(), batch_size=8))
    assert callback.ewc.quadratic.precision.info["samples"] == 24


@pytest.mark.parametrize("package", PACKAGES)
def test_two_optimizers_get_the_penalty_once_each(package):
    pl = importlib.import_module(package)

    class Two(type(project(pl))):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch, _batch_idx):
            one, two = self.optimizers()
            one.zero_grad()
            two.zero_grad()
            self.manual_backward(0.0 * cross_entropy(self(batch[0]), batch[1]))
            one.step()
            two.step()

        def configure_optimizers(self):
            return [torch.optim.SGD(self.net[i].parameters(), lr=0.5) for i in (0, 3)]

    module, callback = Two(), EWCCallback(strength=1.0)
    callback.ewc.model = module
    callback.ewc.consolidate(loader(0))
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.1 * torch.randn_like(p))
    callback.ewc.add_gradient()
    expected = [p.detach() - 0.5 * p.grad for p in module.parameters()]
    module.zero_grad()
    fit(pl, module, callback, 0, max_steps=2)  # Lightning counts the steps of both
    for p, wanted in zip(module.parameters(), expected, strict=True):
        torch.testing.assert_close(p.detach(), wanted)


@pytest.mark.parametrize("package", PACKAGES)
def test_batches_that_cannot_be_consolidated_are_refused_at_once(package):
    pl = importlib.import_module(package)
    module, callback = project(pl), EWCCallback()
    module.training_step = lambda *_: pytest.fail("a step was taken")
    data = [{"x": torch.randn(4, 4), "y": torch.zeros(4, dtype=torch.long)}]
    with pytest.raises(InputError, match="not dict"):
        pl.Trainer(max_epochs=1, callbacks=[callback], **QUIET).fit(module, DataLoader(data, batch_size=None))


@pytest.mark.parametrize("package", PACKAGES)
def test_the_global_random_stream_is_not_touched(package):
    pl = importlib.import_module(package)
    after = []
    for callback in (None, EWCCallback()):
        module = project(pl)
        torch.manual_seed(5)
        trainer = pl.Trainer(max_epochs=1, callbacks=[callback] if callback else [], **QUIET)
        trainer.fit(module, DataLoader(loader(0).dataset, batch_size=8, shuffle=True))
        after.append(torch.rand(1))
    assert torch.equal(*after)


@pytest.mark.parametrize("package", PACKAGES)
def test_precision_of_the_trainer_is_kept_to(package):
    pl = importlib.import_module(package)
    module, callback = project(pl), EWCCallback()
    fit(pl, module, callback, 0, precision="64-true")
    assert callback.ewc.quadratic.centre["net.0.weight"].dtype == torch.float64


@pytest.mark.slow
def test_two_processes_find_the_fisher_of_one():
    """DDP starts the script again for its second process."""
    script = Path(__file__).with_name("two_processes.py")

    def result(devices, rate):
        done = subprocess.run(
            [sys.executable, str(script), str(devices), str(rate)], capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        (line,) = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
        return [float(word) for word in line.split()[1:]]

    alone, both = result(1, 0.0), result(2, 0.0)  # the weights stay the same
    assert alone[1] == both[1] == 40
    assert both[0] == pytest.approx(alone[0], rel=1e-5)
    assert result(2, 0.1)[2] > 0
