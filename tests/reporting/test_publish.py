"""The files beside a report of several runs."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from cl_fisher.reporting.publish import escape, latex, markdown
from cl_fisher.reporting.report import write_report
from cl_fisher.reporting.sheet import Sheet

Write = Callable[..., Path]


def test_all_of_them_are_written(multirun_folder: Write) -> None:
    folder = multirun_folder()
    write_report([folder])
    pairs = pd.read_csv(folder / "pairs.csv")
    accuracy = pairs[pairs["metric"] == "avg_accuracy"]
    assert list(zip(accuracy["first"], accuracy["second"], strict=True)) == [
        ("finetune", "ewc"), ("finetune", "joint"), ("ewc", "joint"),
    ]  # fmt: skip
    # by seed: finetune 0.592, 0.598, 0.604; ewc 0.832, 0.838, 0.844: the same difference each time, so no test
    assert accuracy.iloc[0][["n", "difference", "ci95"]].tolist() == pytest.approx([3, -0.24, 0.0])
    assert accuracy["p"].isna().tolist() == [True, False, False]
    # finetune less joint: -0.358, -0.362, -0.366; t = -0.362 / (0.004 / sqrt(3)) = -156.75
    assert accuracy["p"].tolist()[1] == pytest.approx(4.07e-05, rel=0.01)
    assert accuracy["p_holm"].tolist()[1] == pytest.approx(2 * accuracy["p"].tolist()[1])
    comparison = pd.read_csv(folder / "comparison.csv").set_index("group")
    assert comparison["avg_accuracy_rank"].dropna().to_dict() == {"finetune": 2.0, "ewc": 1.0}
    text = (folder / "comparison.md").read_text()
    assert "| ewc | **83.80 ± 1.49** |" in text
    assert "| finetune − joint | **−36.20 ± 0.99** | < 0.001 | **< 0.001** | 3 |" in text  # noqa: RUF001
    assert "| ewc | **1.00** |" in text
    tex = (folder / "comparison.tex").read_text()
    assert r"ewc & \textbf{83.80 $\pm$ 1.49} &" in tex
    assert tex.count(r"\toprule") == tex.count(r"\bottomrule") == tex.count(r"\midrule") == 5
    assert tex.count("{") == tex.count("}")


def test_a_single_run_is_no_comparison(run_folder: Write) -> None:
    folder = run_folder()
    write_report([folder])
    assert not {path.name for path in folder.glob("*")} & {"comparison.md", "comparison.tex", "pairs.csv"}


def test_one_seed_has_no_tests_and_no_ranks(multirun_folder: Write) -> None:
    folder = multirun_folder([("ewc", 0), ("finetune", 0)])
    write_report([folder])
    pairs = pd.read_csv(folder / "pairs.csv")
    assert pairs["n"].tolist() == [1] * len(pairs)
    assert pairs[["difference", "ci95", "p", "p_holm"]].isna().all(axis=None)
    text = (folder / "comparison.md").read_text()
    assert "Mean rank" not in text
    assert "difference" not in text


def test_cells_that_look_like_markup() -> None:
    sheet = Sheet("a & b", ("Setting", "50%"), (("x_1|{y}", "1 ± 2"),), frozenset({(0, 1)}))
    assert markdown(sheet) == "a & b.\n\n| Setting | 50% |\n| --- | ---: |\n| x_1\\|{y} | **1 ± 2** |\n"
    assert "x\\_1\\textbar{}\\{y\\} & \\textbf{1 $\\pm$ 2} \\\\" in latex(sheet)
    assert escape("~^\\<") == r"\textasciitilde{}\textasciicircum{}\textbackslash{}$<$"


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("online_ewc, a=[16]", "online_ewc, a=[16]"),
        ("a='_x_ y'", r"a='\_x\_ y'"),
        ("*a* <b> `c` $d$", r"\*a\* \<b> \`c\` \$d\$"),
        ("a\\|b", r"a\\\|b"),
    ],
)
def test_markdown_shows_what_was_typed(cell: str, written: str) -> None:
    assert f"| {written} |" in markdown(Sheet("t", ("Setting",), ((cell,),)))
