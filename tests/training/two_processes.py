"""Two tasks under DDP with two processes and with one; run by test_callback.py. Prints the traces and the penalty."""

import sys
import warnings

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

import cl_fisher


class Project(pl.LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = torch.nn.Linear(4, 3)

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, _):
        return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=float(sys.argv[2]))


def main():
    warnings.simplefilter("ignore")
    module, ewc = Project(), cl_fisher.EWCCallback(strength=10.0, estimator="exact")
    for task in range(2):
        generator = torch.Generator().manual_seed(task)
        data = TensorDataset(torch.randn(40, 4, generator=generator), torch.randint(0, 3, (40,), generator=generator))
        trainer = pl.Trainer(
            max_epochs=1, callbacks=[ewc], accelerator="cpu", devices=int(sys.argv[1]), logger=False,
            strategy="ddp" if sys.argv[1] != "1" else "auto", enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(module, DataLoader(data, batch_size=5))
    fisher = ewc.ewc.quadratic.precision
    if trainer.is_global_zero:
        print("RESULT", repr(fisher.trace()), fisher.info["samples"], ewc.ewc.penalty())


if __name__ == "__main__":
    main()
