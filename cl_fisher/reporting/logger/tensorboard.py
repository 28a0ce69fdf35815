"""TensorBoard event files, with the curves and names of the wandb logger."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from cl_fisher.error import InputError
from cl_fisher.event import Event, RunEnded, RunStarted
from cl_fisher.reporting.logger.scalar import Curves

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoardLogger:
    """Writes to `tensorboard/` in the run folder. A resumed run adds another event file there.

    Args:
        directory: The run folder.

    Raises:
        InputError: TensorBoard is not installed.
    """

    def __init__(self, directory: Path) -> None:
        try:
            import torch.utils.tensorboard  # noqa: F401
        except ImportError as error:
            raise InputError("logger=tensorboard needs TensorBoard: pip install 'cl_fisher[tensorboard]'") from error
        self.directory = Path(directory)
        self._curves = Curves()
        self._writer: SummaryWriter | None = None

    def handle(self, event: Event) -> None:
        """Write the event's points: train/* against global_step, all others against the number of tasks."""
        if isinstance(event, RunStarted):
            self._start(event)
        if self._writer is None:
            return
        if points := self._curves.points(event):
            for key, value in points.values.items():
                self._writer.add_scalar(key, value, points.position)
        if isinstance(event, RunEnded):
            self._end(self._writer, event)

    def state_dict(self) -> dict[str, Any]:
        """There is no state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """There is no state."""

    def _start(self, event: RunStarted) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(self.directory / "tensorboard"))
        text = yaml.safe_dump(event.config, sort_keys=False, allow_unicode=True)
        self._writer.add_text("config", "".join(f"    {line}\n" for line in text.splitlines()))  # a Markdown code block

    def _end(self, writer: "SummaryWriter", event: RunEnded) -> None:
        from cl_fisher.reporting.plot import accuracy_heatmap

        if matrix := event.summary.get("accuracy"):
            writer.add_figure(
                "accuracy_matrix", accuracy_heatmap(matrix, after=self._curves.after(matrix)), len(matrix)
            )
        writer.close()
        self._writer = None
