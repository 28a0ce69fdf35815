"""The Lightning side of a task's data."""

from typing import Any

import lightning.pytorch as pl


class PhaseDataModule(pl.LightningDataModule):
    """Hands a phase's training batches to a Trainer. Evaluation is the stream's: it spans tasks, a Trainer does not."""

    def __init__(self, batches: Any) -> None:
        super().__init__()
        self.batches = batches

    def train_dataloader(self) -> Any:
        """Batches, an epoch each time they are iterated."""
        return self.batches
