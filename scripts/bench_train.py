"""What a training step of a whole EWC run costs, against a bare PyTorch loop without any penalty.

One process, one thread. A run as `cl-fisher run` makes it (Lightning, penalty, run folder, wandb offline, terminal,
all at their defaults) trains an epoch of 60,000 images; after every ten of its steps a bare loop takes ten of its own,
so that both see the same machine. Tensors are in memory on both sides. Evaluation and Fisher are excluded, and so is
what a Trainer costs before its first step and after its last, which is printed apart. Figures are medians over blocks
of ten steps, the rows of steps.csv included (one per block).
"""

import argparse
import itertools
import os
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

os.environ.setdefault("WANDB_MODE", "offline")

import lightning.pytorch as pl
import torch
from hydra import compose, initialize_config_dir
from torch.nn.functional import cross_entropy

from cl_fisher.benchmark.task import Scenario, Task, TaskSequence
from cl_fisher.config import build, conf_dir, register_resolvers
from cl_fisher.dataset.examples import Examples
from cl_fisher.event import RunStarted
from cl_fisher.fisher.structure.diagonal import Diagonal
from cl_fisher.model.mlp import MLP
from cl_fisher.reporting.run_folder import RunFolder
from cl_fisher.reporting.terminal import Terminal
from cl_fisher.training.fit import quiet_lightning
from cl_fisher.training.phase import Phase
from cl_fisher.training.stream import Stream, StreamSettings

BATCH, BLOCK = 128, 10


class Alternate(pl.Callback):
    """Lets the bare loop take a block of steps after each block of the run's, and times both."""

    def __init__(self, bare_steps):
        self.bare_steps, self.ours, self.bare = bare_steps, [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if (batch_idx + 1) % BLOCK == 0:
            now = time.perf_counter()
            self.bare_steps()
            self.ours.append((now - self.last) / BLOCK)
            self.last = time.perf_counter()
            self.bare.append((self.last - now) / BLOCK)

    def on_train_epoch_start(self, *_):
        self.last = time.perf_counter()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="scripts/bench train", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each run after one warm-up (default 5)")
    parser.add_argument("--images", type=int, default=60_000, help="images of an epoch (default 60000)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    quiet_lightning()
    images = torch.randint(
        0, 256, (args.images, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    targets = torch.randint(0, 10, (args.images,), generator=torch.Generator().manual_seed(1))
    alternate = Alternate(bare(images, targets))
    with tempfile.TemporaryDirectory() as folder:
        runs = {n: ours(images, targets, n, Path(folder, str(n)), alternate) for n in (1, 50)}
        blocks = {n: ([], []) for n in runs}
        fixed = []
        for turn in range(args.rounds + 1):
            for n, run in runs.items():
                alternate.ours, alternate.bare = [], []
                start = time.perf_counter()
                run()
                rest = time.perf_counter() - start - BLOCK * (sum(alternate.ours) + sum(alternate.bare))
                if turn:
                    blocks[n][0].extend(alternate.ours)
                    blocks[n][1].extend(alternate.bare)
                    fixed.append(rest)
    report(blocks, fixed)


def bare(images, targets):
    """The loop that everybody writes, ten steps a call."""
    model = MLP((1, 28, 28), 10)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    inputs = images.float().div_(255)

    def batches():
        while True:
            yield from torch.randperm(len(images)).split(BATCH)

    supply = batches()

    def steps() -> None:
        for which in itertools.islice(supply, BLOCK):
            optimizer.zero_grad()
            cross_entropy(model(inputs[which]), targets[which]).backward()
            optimizer.step()

    return steps


def ours(images, targets, n_tasks, folder, alternate):
    """An epoch of a run with `n_tasks` penalties behind it."""
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("config", [f"output_dir={folder}"])
    folder.mkdir()
    everything = Examples(images, torch.arange(len(images)), targets, scale=255.0)
    task = Task(1, everything, everything.subset(torch.arange(0)), everything, range(10))
    sequence = TaskSequence((task,), Scenario("domain"), 10)
    model = MLP((1, 28, 28), 10)
    strategy = build(cfg.strategy, model=model)
    for _ in range(n_tasks):
        with torch.no_grad():
            for w in model.parameters():
                w.add_(0.001 * torch.randn_like(w))
        fisher = Diagonal({name: torch.rand_like(w.detach()) * 1e-4 for name, w in model.named_parameters()})
        strategy.quadratic.add(fisher, model)
    listeners = [RunFolder(folder), build(cfg.logger, directory=folder), Terminal(1)]
    settings = StreamSettings(epochs=1, batch_size=BATCH)
    trainer = partial(build(cfg.trainer), callbacks=[alternate])
    stream = Stream(sequence, model, strategy, build(cfg.optimizer), trainer, settings, listeners, folder)
    stream.send(RunStarted(1, 1, {}, {"strategy": "ewc"}))
    return lambda: stream.train(Phase(1, {1: task.train}, 1))


def report(blocks, fixed) -> None:
    """Medians, spread, and the ratios that matter."""
    print(
        f"{'tasks consolidated':>20}{'run, ms a step (quartiles)':>32}{'bare, ms a step (quartiles)':>32}{'ratio':>9}"
    )
    ratios = {}
    for n, (run, loop) in blocks.items():
        ratios[n] = statistics.median(run) / statistics.median(loop)
        print(f"{n:>20}{quartiles(run):>32}{quartiles(loop):>32}{ratios[n]:>8.3f}x")
    print(f"50 tasks against 1: {ratios[50] / ratios[1]:.3f}x")
    print(f"once a task, beside its steps: {statistics.median(fixed) * 1e3:.0f} ms (data in memory, Trainer)")


def quartiles(values) -> str:
    low, middle, high = (1e3 * v for v in statistics.quantiles(values, n=4))
    return f"{middle:.3f} ({low:.3f} - {high:.3f})"


if __name__ == "__main__":
    main()
