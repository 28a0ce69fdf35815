import io
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from cl_fisher.error import InputError
from cl_fisher.reporting.aggregate import Estimate, group_runs
from cl_fisher.reporting.glossary import METRICS, SECONDS
from cl_fisher.reporting.read import read_source
from cl_fisher.reporting.table import print_comparison, write_comparison

Write = Callable[..., Path]


def printed(*folders: Path, width: int = 120, out: Path | None = None) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_comparison(folders, console, out)
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((), "–"),  # noqa: RUF001
        ((0.5,), "50.00"),
        ((-0.3,), "\N{MINUS SIGN}30.00"),
        ((-0.000001,), "0.00"),
        # t(0.975, 1) = 12.7062, standard deviation 0.0141421, over the square root of 2
        ((0.49, 0.51), "50.00 ± 12.71"),
    ],
)
def test_numbers_are_percent_with_two_decimals(values: tuple[float, ...], text: str) -> None:
    assert METRICS[0].text(Estimate(values)) == text


def test_seconds_have_one_decimal() -> None:
    assert SECONDS.text(Estimate((12.34,))) == "12.3"


def test_multirun_prints_the_comparison(multirun_folder: Write) -> None:
    text = printed(multirun_folder())
    (line,) = (line for line in text.splitlines() if line.startswith(" finetune"))
    # (4 * 0.51 + 0.95) / 5 over seeds 0.592, 0.598, 0.604: half-width 4.302653 * 0.006 / sqrt(3)
    assert "59.80 ± 1.49" in line
    assert "13.0 ± 2.5" in line
    assert line.rstrip().endswith("3/3")
    assert "Test set" in text


def test_a_narrow_terminal_loses_no_number(multirun_folder: Write) -> None:
    words = printed(multirun_folder(), width=80).split()
    assert {"59.80", "1.49", "Forgetting", "3/3"} <= set(words)


def test_cells_that_did_not_finish_are_named(multirun_folder: Write) -> None:
    cells = [("ewc", 0), ("[red]x[/]", 1), ("l2", 0)]
    text = printed(multirun_folder(cells, absent=[("l2", 0)], status="failed", final=False, error="line 1\n[bold]end"))
    assert "failed 000_strategy=ewc_seed=0: [bold]end\n" in text
    assert "missing 002_strategy=l2_seed=0\n" in text
    assert "[red]x[/]" in text


def test_a_single_run_prints_its_matrix_and_metrics(run_folder: Write) -> None:
    text = printed(run_folder())
    assert "80.0     80.0     80.0     80.0     96.0" in text
    assert "Average accuracy" in text
    assert "83.20 %" in text


def test_what_was_written_is_listed(run_folder: Write, tmp_path: Path) -> None:
    folder = run_folder()
    (folder / "report.html").touch()
    assert str(folder / "report.html") in printed(folder, width=20).splitlines()
    assert str(folder / "report.html") not in printed(folder, out=tmp_path).splitlines()


def test_no_folder_is_an_input_error() -> None:
    with pytest.raises(InputError, match="no folder"):
        printed()


def test_comparison_csv(multirun_folder: Write, tmp_path: Path) -> None:
    cells = [("ewc", 0), ("ewc", 1), ("joint", 0), ("l2", 0)]
    groups = group_runs(read_source(multirun_folder(cells, absent=[("l2", 0)])).runs)
    write_comparison(groups, tmp_path / "comparison.csv")
    table = pd.read_csv(tmp_path / "comparison.csv").set_index("group")
    assert table.loc["ewc", "avg_accuracy"] == pytest.approx(0.835)
    assert table.loc["ewc", "avg_accuracy_ci95"] == pytest.approx(12.706205 * 0.003, rel=1e-6)
    assert table.loc["joint", ["forgetting", "avg_accuracy_ci95"]].isna().all()
    assert table.loc["l2", "failed_or_missing"] == "003_strategy=l2_seed=0"
    assert table.loc["ewc", "seeds"] == "0 1"
