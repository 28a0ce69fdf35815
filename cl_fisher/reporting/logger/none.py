"""No logger: the files of the run folder are all."""

from pathlib import Path
from typing import Any

from cl_fisher.event import Event


class NoLogger:
    """Records nothing.

    Args:
        directory: The run folder; not used.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def handle(self, event: Event) -> None:
        """Do nothing."""

    def state_dict(self) -> dict[str, Any]:
        """There is no state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """There is no state."""
