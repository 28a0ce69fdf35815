import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from cl_fisher.error import InputError
from cl_fisher.reporting.aggregate import Estimate, group_runs
from cl_fisher.reporting.glossary import FURTHER, METRICS, SECONDS
from cl_fisher.reporting.publish import write_comparison
from cl_fisher.reporting.read import read_source
from cl_fisher.reporting.table import print_comparison

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
    line, *_ = (line for line in text.splitlines() if line.startswith(" finetune"))
    # (4 * 0.51 + 0.95) / 5 over seeds 0.592, 0.598, 0.604: half-width 4.302653 * 0.006 / sqrt(3)
    assert "59.80 ± 1.49" in line
    assert "13.0 ± 2.5" in line
    assert line.rstrip().endswith("3/3")
    assert "Test set" in text


def test_a_narrow_terminal_loses_no_number(multirun_folder: Write) -> None:
    words = printed(multirun_folder(), width=80).split()
    assert {"59.80", "1.49", "Forgetting", "3/3"} <= set(words)


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 120, 200])
def test_no_word_or_number_is_broken(multirun_folder: Write, width: int) -> None:
    folder = multirun_folder([(name, seed) for name in ("ewc", "my_strategy") for seed in (0, 1)])
    listed = json.loads((folder / "multirun.json").read_text())
    for i, cell in enumerate(listed["cells"]):
        cell["overrides"] += [f"scenario={'task' if i < 2 else 'domain'}", f"strategy.strength={[100, 3][i // 2]}"]
    (folder / "multirun.json").write_text(json.dumps(listed))
    text = printed(folder, width=width).split(str(folder))[0]
    words = set(re.findall(r"[\w./]+", text))
    assert {"my_strategy", "ewc", "scenario", "task", "domain", "strategy.strength", "100", "3"} <= words
    assert {"Average", "accuracy", "Forgetting", "83.50", "3.81", "2/2"} <= words
    assert width < 60 or max(len(line.rstrip()) for line in text.splitlines()) <= width


def test_a_narrow_terminal_says_which_columns_it_leaves_out(multirun_folder: Write) -> None:
    folder = multirun_folder()
    assert "A wider terminal" not in printed(folder, width=80)
    text = " ".join(printed(folder, width=60).split())
    assert re.search(r"A wider terminal also shows: .*FWT", text)
    assert "FWT" not in text.split("A wider")[0]


def test_a_matrix_too_wide_for_the_terminal_is_a_list_of_tasks(run_folder: Write) -> None:
    n = 50
    matrix = [[0.5 if j < i else 0.9 if j == i else 0.1 for j in range(n)] for i in range(n)]
    text = printed(run_folder(n_tasks=n, accuracy=matrix), width=80)
    rows = [line.split() for line in text.splitlines()]
    assert ["1", "90.0", "50.0"] in rows
    assert ["50", "90.0", "90.0"] in rows
    assert max(map(len, text.splitlines()[:56])) <= 80


def test_the_matrix_of_joint_training_and_of_a_run_that_ended_after_task_1(run_folder: Write) -> None:
    ended = run_folder(status="interrupted", accuracy=[[0.9, 0.1, 0.1, 0.1, 0.1]])
    assert ["1", "90.0", *["10.0"] * 4] in [line.split() for line in printed(ended).splitlines()]
    joint = run_folder("joint", name="joint")
    assert ["all", *["95.0"] * 5] in [line.split() for line in printed(joint).splitlines()]


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


def test_paired_differences_and_ranks_are_printed(multirun_folder: Write) -> None:
    text = " ".join(printed(multirun_folder()).split())
    assert "finetune − joint −36.20 ± 0.99 < 0.001 < 0.001 3" in text  # noqa: RUF001
    assert "ewc 1.00 1.50 1.50" in text
    assert "pairs.csv" not in text  # nothing was written


@pytest.mark.parametrize("width", [60, 80, 200])
def test_further_metrics_fit_too(multirun_folder: Write, width: int) -> None:
    folder = multirun_folder(**{metric.key: 0.125 for metric in FURTHER})
    text = printed(folder, width=width).split(str(folder))[0]
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    assert {"Min-ACC", "12.50"} <= set(text.split())
    if width == 200:
        assert {"Intransigence", "Recovery"} <= set(text.split())


def test_many_pairs_are_left_to_the_file(multirun_folder: Write) -> None:
    folder = multirun_folder([(f"x{i}", seed) for i in range(7) for seed in (0, 1)])
    assert "difference over the same seeds" not in " ".join(printed(folder).split())
    assert "Mean rank" in printed(folder)
