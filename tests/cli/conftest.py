"""A stand-in for the job, so that the command line is tested without training anything."""

import json
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from omegaconf import DictConfig

import cl_fisher.cli
import cl_fisher.reporting
from cl_fisher.cli.main import main


@dataclass
class Jobs:
    """What the stand-in was asked to do; `act` decides what a job does."""

    checked: list[DictConfig] = field(default_factory=list)
    ran: list[dict[str, Any]] = field(default_factory=list)
    reported: list[list[Path]] = field(default_factory=list)
    compared: list[list[Path]] = field(default_factory=list)
    act: Callable[[DictConfig], dict[str, Any]] = lambda cfg: {"status": "finished", "value": cfg.seed / 10}
    write: Callable[[Path], None] = lambda page: page.write_text("<html>") and None

    def run(self, cfg: DictConfig, choices: dict[str, str], overrides: list[str], command: str) -> dict[str, Any]:
        folder = Path(cfg.output_dir)
        self.ran.append({"cfg": cfg, "folder": folder, "choices": choices, "overrides": overrides, "command": command})
        (folder / "metrics.json").write_text(json.dumps({"overrides": overrides}))
        return self.act(cfg)

    def report(self, folders: list[Path], out: Path | None) -> Path:
        self.reported.append(list(folders))
        page = out or folders[0] / "report.html"
        self.write(page)
        return page


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Jobs:
    """Everything heavy replaced."""
    jobs = Jobs()
    modules = {
        (cl_fisher.cli, "job"): {"check": jobs.checked.append, "run": jobs.run},
        (cl_fisher.reporting, "report"): {"write_report": jobs.report},
        (cl_fisher.reporting, "table"): {"print_comparison": lambda folders, *_: jobs.compared.append(list(folders))},
    }
    for (package, name), content in modules.items():
        module = ModuleType(f"{package.__name__}.{name}")
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(package, name, module, raising=False)
    return jobs


@pytest.fixture
def cli(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Call the command line in an empty folder: exit status, stdout, stderr."""
    request.getfixturevalue("jobs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging.root, "handlers", [])  # --info adds one that writes to this test's stdout
    monkeypatch.setenv("CL_FISHER_DATA", str(tmp_path / "data"))

    def call(*argv: str) -> tuple[int, str, str]:
        status = main(list(argv))
        return status, *capsys.readouterr()

    return call
