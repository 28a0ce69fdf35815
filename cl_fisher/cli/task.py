"""What Hydra runs: one job, here or wherever a launcher takes it. Nothing in here may rely on the parent process."""

import shlex
import sys
import traceback
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from cl_fisher.cli.engine import choices, typed
from cl_fisher.config import register_resolvers, validate
from cl_fisher.error import InputError, RunError

register_resolvers()  # a worker process needs them before it calls `run_cell`: Hydra names the job's folder with them

ERROR_FILE = "error.txt"


def run_single(cfg: DictConfig, flags: tuple[str, ...] = ()) -> Any:
    """Run the only job. An exception is returned, not raised: Hydra would print a line of its own about it."""
    try:
        return _run(cfg, flags)
    except Exception as error:
        return error


def run_cell(cfg: DictConfig, flags: tuple[str, ...] = ()) -> float:
    """Run one cell of a multirun and return what a sweeper optimises; nan, and a file error.txt, if it failed."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        validate(cfg)
        value = _run(cfg, flags)["value"]
        return float("nan") if value is None else float(value)
    except (InputError, RunError) as error:
        return _failed(folder, str(error), str(error))
    except Exception as error:  # a bug in one cell must not cost the others
        return _failed(folder, f"{type(error).__name__}: {error}", traceback.format_exc())


def _run(cfg: DictConfig, flags: tuple[str, ...]) -> dict[str, Any]:
    from cl_fisher.cli import job

    register_resolvers()
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    cfg.output_dir = str(folder)  # a cell's own, not the multirun's
    again = [str(o) for o in hydra.overrides.task if str(o).partition("=")[0] != "output_dir"]
    command = shlex.join(["cl-fisher", "run", *flags, *again])
    try:
        result: dict[str, Any] = job.run(cfg, choices(hydra), typed(hydra), command)
    finally:
        if (folder / "metrics.json").exists():
            report([folder])
    if result["status"] == "interrupted":
        raise KeyboardInterrupt
    if result["status"] != "finished":
        raise RunError(result.get("error") or f"its status is {result['status']}; see {folder / 'metrics.json'}")
    return result


def report(folders: list[Path]) -> Path | None:
    """Write report.html; the runs are on disk already, so that a failure here costs a warning and nothing else."""
    try:
        from cl_fisher.reporting.report import write_report

        return write_report(folders, None)
    except Exception as error:  # whatever it is, the run itself stands
        print(f"cl-fisher: warning: no report for {folders[0]}: {type(error).__name__}: {error}", file=sys.stderr)
        return None


def _failed(folder: Path, message: str, details: str) -> float:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ERROR_FILE).write_text(details.rstrip() + "\n", encoding="utf-8")
    print(f"cl-fisher: {folder.name} failed: {message}", file=sys.stderr)
    return float("nan")
