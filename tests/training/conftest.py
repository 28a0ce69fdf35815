"""Small streams on embedded digits."""

from functools import partial

import lightning.pytorch as pl
import pytest
import torch

from cl_fisher.benchmark.permuted import permuted
from cl_fisher.benchmark.split import split
from cl_fisher.benchmark.task import Scenario
from cl_fisher.dataset.digits import digits
from cl_fisher.model.mlp import MLP
from cl_fisher.strategy.ewc import EWC
from cl_fisher.training.checkpoint import seed_everything
from cl_fisher.training.fit import quiet_lightning
from cl_fisher.training.stream import Stream, StreamSettings


class Recorder:
    """Keeps every event."""

    def __init__(self):
        self.events = []

    def handle(self, event):
        self.events.append(event)

    def of(self, kind):
        return [e for e in self.events if isinstance(e, kind)]

    def state_dict(self):
        return {"n": len(self.events)}

    def load_state_dict(self, state):
        self.restored = state


@pytest.fixture
def make_stream():
    """stream = make_stream(strategy=EWC, strength=..., benchmark="permuted", ...)."""
    quiet_lightning()

    def make(
        strategy=EWC, benchmark="permuted", scenario="domain", n_tasks=2, seed=0, lr=1e-3, sgd=None, dropout=False,
        norm=False, directory=None, validation_fraction=0.1, trainer=None, listeners=None, options=None, **settings,
    ):  # fmt: skip
        make_tasks = {"permuted": permuted, "split": split}[benchmark]
        scenario = scenario if isinstance(scenario, Scenario) else Scenario(scenario)
        sequence = make_tasks(digits(), scenario, n_tasks=n_tasks, seed=seed, validation_fraction=validation_fraction)
        seed_everything(seed)
        network = MLP(sequence.input_shape, sequence.n_outputs, hidden=[16])
        if norm:
            network.insert(2, torch.nn.BatchNorm1d(16))
        if dropout:  # draws from the global random stream at each training step
            network.insert(1, torch.nn.Dropout(0.2))
        optimizer = partial(torch.optim.Adam, lr=lr) if sgd is None else partial(torch.optim.SGD, **sgd)
        new_trainer = partial(pl.Trainer, accelerator="cpu", devices=1, **(trainer or {}))
        given = {"iterations": 6, "log_every": 2, "seed": seed} | settings
        recorder = Recorder()
        stream = Stream(
            sequence, network, strategy(network, **(options or {})), optimizer, new_trainer, StreamSettings(**given),
            [recorder, *(listeners or [])], directory,
        )  # fmt: skip
        stream.recorder = recorder
        return stream

    return make
