"""Weights & Biases: one run per job, offline unless the user is logged in.

wandb is an extra: the run folder has all that it records, so whatever goes wrong in it costs one line on stderr and
no training. It is imported when a run starts, not before.
"""

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cl_fisher.event import Event, RunEnded, RunStarted
from cl_fisher.reporting.logger.scalar import AXIS, Curves, final

if TYPE_CHECKING:
    import wandb

MODES = ("online", "offline", "disabled", "shared", "dryrun", "run")
INIT_SECONDS = 15.0
FINISH_SECONDS = 60.0


class WandbLogger:
    """Writes to `wandb/` in the run folder, and to the server if the user is logged in; WANDB_MODE is respected.

    Args:
        project: The wandb project.
        directory: The run folder.
        group: What the run is grouped under; None: the multirun that it is a cell of.
        tags: Tags of the run.
    """

    _unreachable = False  # a multirun waits once for a server that does not answer, not once a cell

    def __init__(self, project: str, directory: Path, group: str | None = None, tags: Sequence[str] = ()) -> None:
        self.project = project
        self.directory = Path(directory)
        sweep = self.directory.absolute().parent
        self.group = sweep.name if group is None and (sweep / "multirun.json").exists() else group
        self.tags = tuple(tags)
        self._curves = Curves()
        self._id: str | None = None
        self._step: int | None = None
        self._run: wandb.Run | None = None

    def handle(self, event: Event) -> None:
        """Log the event's points, each with the position on its own axis."""
        try:
            if isinstance(event, RunStarted):
                self._run = self._start(event)
            if self._run is None:
                return
            if points := self._curves.points(event):
                self._run.log({points.axis: points.position, **points.values}, step=self._step, commit=True)
                self._step = None  # from here on wandb counts
            if isinstance(event, RunEnded):
                self._end(self._run, event)
        except Exception as error:  # whatever it is, see above
            _note(f"{_one_line(error)}; the run goes on without it")
            self._run = None

    def state_dict(self) -> dict[str, Any]:
        """The run's id, and wandb's own count of rows."""
        return {"id": self._id, "step": self._run.step if self._run else self._step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the wandb run of an earlier process."""
        self._id, self._step = state["id"], state["step"]

    def _start(self, event: RunStarted) -> "wandb.Run | None":
        _correct_environment()
        if os.environ.get("WANDB_MODE") == "disabled":
            return None
        import wandb

        mode = "offline" if WandbLogger._unreachable else _mode()
        try:
            run = self._init(event, mode)
        except (wandb.Error, TimeoutError) as error:
            if mode == "offline":
                raise
            WandbLogger._unreachable = True
            _note(f"{_one_line(error)}; recording offline")
            run = self._init(event, "offline")
        self._id = run.id
        if not run.offline:
            self._step = None  # the server knows it
        for family, axis in AXIS.items():
            run.define_metric(axis)
            run.define_metric(family, step_metric=axis)
        return run

    def _init(self, event: RunStarted, mode: str) -> "wandb.Run":
        import wandb

        return wandb.init(
            project=self.project,
            group=self.group,
            tags=self.tags,
            name=_name(event),
            config=dict(event.config),
            dir=self.directory,
            mode=mode,  # type: ignore[arg-type]
            id=self._id,
            resume="allow" if self._id else None,
            reinit="create_new",  # a run that the caller of this library has open is none of our business
            settings=_settings(),
        )

    def _end(self, run: "wandb.Run", event: RunEnded) -> None:
        try:
            if matrix := event.summary.get("accuracy"):
                run.log(_matrix(matrix, self._curves.after(matrix)))
            run.summary.update({"status": event.status, **final(event.summary)})
        finally:
            run.finish(exit_code=0 if event.status == "finished" else 1)
            self._run = None


def _matrix(accuracy: list[Any], after: list[int] | None) -> dict[str, Any]:
    """The accuracy matrix as table and as image."""
    import wandb
    from PIL import Image

    from cl_fisher.reporting.plot import accuracy_heatmap

    columns: list[str | int] = [f"task_{task}" for task in range(1, len(accuracy[0]) + 1)]
    png = io.BytesIO()  # wandb would take the figure itself only with pyplot imported
    accuracy_heatmap(accuracy, after=after).savefig(png, format="png", dpi=150)
    return {
        "accuracy_matrix": wandb.Table(columns=columns, data=accuracy),
        "accuracy_heatmap": wandb.Image(Image.open(png)),
    }


def _settings() -> "wandb.Settings":
    """No word on the terminal, and nothing collected but what is logged; start and end then take milliseconds."""
    import wandb

    return wandb.Settings(
        silent=True,
        console="off",
        init_timeout=INIT_SECONDS,
        finish_timeout=FINISH_SECONDS,
        disable_git=True,
        disable_code=True,
        x_disable_stats=True,
        x_save_requirements=False,  # the list of installed packages alone would take 0.1 s
    )


def _correct_environment() -> None:
    """Put right a WANDB_MODE that wandb would stumble over wherever it reads it: one that is empty or unknown."""
    wanted = os.environ.get("WANDB_MODE")
    if wanted is None or wanted in MODES:
        return
    del os.environ["WANDB_MODE"]
    if wanted:
        os.environ["WANDB_MODE"] = "offline"
        _note(f"WANDB_MODE={wanted} is not one of {', '.join(MODES[:3])}; recording offline")


def _mode() -> str:
    """WANDB_MODE, if set; else online for a user who is logged in, which is found out without asking or network."""
    import wandb

    wanted = os.environ.get("WANDB_MODE")
    if wanted not in (None, "online"):
        return wanted
    wandb.setup(wandb.Settings(silent=True))
    try:
        if wandb.login(prompt=False, verify=False):
            return "online"
    except wandb.Error as error:
        _note(f"{_one_line(error)}; recording offline")
        return "offline"
    if wanted == "online":
        _note("WANDB_MODE=online, but nobody is logged in (wandb login); recording offline")
    return "offline"


def _name(event: RunStarted) -> str:
    """What was typed, with the strategy first and the seed last: "ewc scenario=task seed=0"."""
    typed = [o for o in event.overrides if o.split("=")[0] not in ("strategy", "seed")]
    return " ".join([event.choices.get("strategy", "run"), *typed, f"seed={event.config.get('seed')}"])


def _note(text: str) -> None:
    print(f"wandb: {text}", file=sys.stderr)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
