"""One Trainer, one fit; with Lightning's way of ending a program on Ctrl-C put right."""

import logging
import signal
import threading
import warnings

import lightning.pytorch as pl
from lightning.pytorch.trainer.states import TrainerStatus


def fit(trainer: pl.Trainer, module: pl.LightningModule, data: pl.LightningDataModule) -> None:
    """Train, and leave the model on the device that it was trained on.

    Lightning answers Ctrl-C by ignoring further ones and leaving the program with status 1; here it stays a
    KeyboardInterrupt, so that what was computed is written and the status says why.
    """
    before = signal.getsignal(signal.SIGINT)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning against a newer torch
            warnings.filterwarnings("ignore", message="Found .* in eval mode")  # batch norm whose statistics are held
            trainer.fit(module, datamodule=data)
    except SystemExit as stop:
        if trainer.state.status == TrainerStatus.INTERRUPTED:
            raise KeyboardInterrupt from stop
        raise
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)
    if trainer.interrupted:
        raise KeyboardInterrupt
    module.to(trainer.strategy.root_device)


def quiet_lightning() -> None:
    """Only warnings: a run makes a Trainer a task, and each would announce the devices anew."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
