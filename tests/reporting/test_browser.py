"""The report in a real browser: nothing sticks out on a phone or a desk, nothing is fetched, both themes appear."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from cl_fisher.reporting.report import write_report
from tests.reporting.conftest import write_continual

Write = Callable[..., Path]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

# A window is at least 500 pixels wide, so the page is measured in a frame. It reports what it sees to the outer page.
PROBE = """<script>addEventListener("load", () => parent.postMessage({
  width: document.documentElement.scrollWidth,
  inner: innerWidth,
  surface: getComputedStyle(document.body).backgroundColor,
  line: getComputedStyle(document.querySelector("figure svg path[style*='--']")).stroke,
  cell: getComputedStyle(document.querySelector(".heat td.strong")).color,
  small: Math.min(...Array.from(document.querySelectorAll("svg text"), (text) => text.getBoundingClientRect().height)),
  matrix: (({clientWidth, scrollWidth}) => [clientWidth, scrollWidth])(document.querySelector(".heat").parentElement),
  uneven: Array.from(document.querySelectorAll("table.wide tr"), (row) => row.getBoundingClientRect().height)
    .filter((height) => Math.abs(height - Math.round(height)) > 0.01).length,
  shades: Array.from(document.querySelectorAll(".scroll"), (box) => [box.matches(".tall"),
    getComputedStyle(box).backgroundImage.split("linear-gradient").length - 1]),
  requests: performance.getEntriesByType("resource").map((entry) => entry.name),
  scripts: document.scripts.length,
}, "*"))</script></body>"""
FRAME = """<!DOCTYPE html><meta name="color-scheme" content="light dark"><body>
<script>addEventListener("message", (event) => document.body.dataset.seen = JSON.stringify(event.data))</script>
<iframe src="probe.html" style="border: 0; width: {width}px; height: 844px"></iframe></body>"""


def see(report: Path, folder: Path, width: int, dark: bool) -> dict[str, Any]:
    (folder / "probe.html").write_text(report.read_text().replace("</body>", PROBE))
    (folder / "frame.html").write_text(FRAME.format(width=width))
    scheme = 0 if dark else 1
    command = [
        str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
        f"--user-data-dir={folder / 'profile'}", f"--blink-settings=preferredColorScheme={scheme}",
        "--window-size=1400,900", "--virtual-time-budget=3000", "--dump-dom", (folder / "frame.html").as_uri(),
    ]  # fmt: skip
    dom = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    found = re.search(r'data-seen="([^"]*)"', dom)
    assert found, dom
    return json.loads(unescape(found[1]))


@pytest.mark.parametrize(("width", "dark"), [(390, False), (390, True), (1280, False), (1280, True)])
def test_multirun_fits_and_follows_the_theme(multirun_folder: Write, tmp_path: Path, width: int, dark: bool) -> None:
    folder = multirun_folder(absent=[("ewc", 1)])
    metrics = folder / "000_strategy=finetune_seed=0" / "metrics.json"
    failed = json.loads(metrics.read_text()) | {"status": "failed", "error": "a_long_word_" * 30}
    metrics.write_text(json.dumps(failed))
    for cell in folder.glob("0*"):
        write_continual(cell)
    seen = see(write_report([folder]), tmp_path, width, dark)
    assert seen["inner"] == width
    assert seen["width"] == width
    assert seen["requests"] == []
    assert seen["scripts"] == 2  # the page's and the probe's
    assert seen["surface"] == ("rgb(20, 24, 29)" if dark else "rgb(255, 255, 255)")
    assert seen["cell"] == ("rgb(0, 0, 0)" if dark else "rgb(255, 255, 255)")
    assert seen["line"] == ("rgb(51, 59, 68)" if dark else "rgb(221, 226, 231)")
    assert seen["small"] >= 9
    assert seen["uneven"] == 0  # else the lines below a cell that stays in place and below the others part
    assert {tuple(shade) for shade in seen["shades"]} == {
        (False, 3),
        (True, 5),
    }  # with a cover each, at the right; below


def test_a_single_run_with_many_tasks_and_long_names_fits_a_phone(run_folder: Write, tmp_path: Path) -> None:
    matrix = [[0.9] * 20 for _ in range(20)]
    folder = run_folder(
        "a_strategy_with_a_very_long_name_indeed", accuracy=matrix, command="x" * 300, versions={"a": "b" * 200}
    )
    assert see(write_report([folder]), tmp_path, 390, dark=False)["width"] == 390


def test_the_matrix_of_fifty_tasks_scrolls_in_its_box(run_folder: Write, tmp_path: Path) -> None:
    seen = see(write_report([run_folder(accuracy=[[0.9] * 50 for _ in range(50)])]), tmp_path, 390, dark=False)
    assert seen["width"] == 390
    box, content = seen["matrix"]
    assert box < 390 < content


@pytest.mark.parametrize(("width", "dark"), [(390, True), (1280, False)])
def test_a_sweep_over_a_number_fits(multirun_folder: Write, tmp_path: Path, width: int, dark: bool) -> None:
    folder = multirun_folder([(name, seed) for name in ("ewc", "l2") for _ in range(3) for seed in (0, 1)])
    listed = json.loads((folder / "multirun.json").read_text())
    for i, cell in enumerate(listed["cells"]):
        cell["overrides"].append(f"strategy.strength={[1, 100, 10000][i // 2 % 3]}")
    (folder / "multirun.json").write_text(json.dumps(listed))
    seen = see(write_report([folder]), tmp_path, width, dark)
    assert seen["width"] == width
    assert seen["small"] >= 9
