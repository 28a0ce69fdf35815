import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from cl_fisher.error import InputError
from cl_fisher.reporting.aggregate import group_runs
from cl_fisher.reporting.gallery import Gallery
from cl_fisher.reporting.read import read_source
from cl_fisher.reporting.report import write_report
from tests.reporting.conftest import write_continual

Write = Callable[..., Path]


class Page(HTMLParser):
    """The visible text, all tags with their attributes, and the rows of all tables."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.pieces: list[str] = []
        self._hidden = self._in_cell = False
        self.feed(self.source)
        self.text = re.sub(r"\s+", " ", "".join(self.pieces))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._hidden = tag in ("style", "script")
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False
        self._in_cell &= tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._hidden:
            return
        self.pieces.append(data)
        if self._in_cell:
            self.rows[-1][-1] = (self.rows[-1][-1] + data).strip()

    def row(self, *start: str) -> list[str]:
        """The first table row that begins like this."""
        return next(row for row in self.rows if row[: len(start)] == list(start))


def page(*folders: Path, out: Path | None = None) -> Page:
    return Page(write_report(folders, out))


def test_multirun_shows_mean_and_interval_over_seeds(multirun_folder: Write) -> None:
    folder = multirun_folder()
    report = page(folder)
    # average accuracies of finetune: (4 * 0.50 + 0.96) / 5 = 0.592, 0.598, 0.604; t(0.975, 2) = 4.302653
    assert report.row("finetune")[1] == "59.80 ± 1.49"
    assert report.row("ewc")[3] == "31.00 ± 2.48"
    assert report.row("joint")[1:] == ["96.00 ± 2.48", *["–"] * 4, "13.0 ± 2.5", "3"]  # noqa: RUF001
    assert "77.70 ± 0.00" in report.text  # validation, apart
    assert "cl-fisher run -m strategy=finetune,ewc,joint seed=0,1,2" in report.text
    assert "finetune, ewc and joint on permuted digits" in report.text
    assert pd.read_csv(folder / "comparison.csv")["avg_accuracy"].tolist() == pytest.approx([0.598, 0.838, 0.96])


def test_matrix_cells_are_means_over_seeds(multirun_folder: Write) -> None:
    report = page(multirun_folder())
    assert report.row("task 5")[1:] == ["51.0"] * 4 + ["95.0"]
    assert report.row("all")[1:] == ["96.0"] * 5
    cells = [attributes for tag, attributes in report.tags if tag == "td" and "--v" in (attributes.get("style") or "")]
    assert len(cells) == 25 + 25 + 5
    assert sum("own" in (cell["class"] or "") for cell in cells) == 10  # joint has no row of its own for a task


def test_fisher_traces_are_means_over_seeds(multirun_folder: Write) -> None:
    assert page(multirun_folder()).row("ewc", "2") == ["ewc", "2", "exact", "diagonal", "1,293", "0.30", "5", "0.1"]


def test_the_largest_eigenvalue_is_shown_where_it_is_known(run_folder: Write) -> None:
    folder = run_folder()
    assert page(folder).row("2") == ["2", "exact", "diagonal", "1,293", "0.30", "4", "0.1"]
    lines = (folder / "fisher.csv").read_text().splitlines()
    (folder / "fisher.csv").write_text("\n".join(line.rpartition(",")[0] for line in lines))
    report = page(folder)
    assert report.row("2") == ["2", "exact", "diagonal", "1,293", "0.30", "4"]
    assert not any("Largest eigenvalue" in row for row in report.rows)


def test_nothing_is_loaded_from_elsewhere(multirun_folder: Write) -> None:
    path = write_report([multirun_folder()])
    report = Page(path)
    assert path.stat().st_size < 1_500_000
    assert not re.search(r"https?:|//\w|@import|url\((?!#)", report.source)
    for tag, attributes in report.tags:
        assert tag not in ("iframe", "object", "embed", "img")
        assert "src" not in attributes
        for key in ("href", "xlink:href"):
            assert (attributes.get(key) or "#").startswith(("#", "data:,"))


def test_both_themes_are_there_and_ids_are_unique(multirun_folder: Write) -> None:
    report = page(multirun_folder())
    light, dark = re.findall(r"--surface: (#\w+)", report.source)
    assert (light, dark) == ("#ffffff", "#14181d")
    assert "(prefers-color-scheme: dark)" in report.source
    ids = [attributes["id"] for _, attributes in report.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_the_page_is_accessible(multirun_folder: Write) -> None:
    tags = page(multirun_folder()).tags
    assert all("scope" in attributes for tag, attributes in tags if tag == "th")
    charts = [attributes for tag, attributes in tags if tag == "svg"]
    assert all(attributes.get("aria-label") or attributes.get("aria-hidden") for attributes in charts)
    assert ("html", {"lang": "en"}) in tags


def test_plots_are_saved(multirun_folder: Write) -> None:
    folder = multirun_folder()
    write_report([folder])
    names = {path.stem for path in (folder / "plots").glob("*.png")}
    assert {"avg_accuracy", "forgetting", "task_1", "task_5", "loss_joint", "penalty_ewc"} <= names
    assert {"accuracy_matrix_ewc", "accuracy_matrix_joint"} <= names
    assert "penalty_finetune" not in names


@pytest.mark.parametrize("ours", [True, False])
def test_nothing_of_an_earlier_report_stays_behind(
    multirun_folder: Write, run_folder: Write, tmp_path: Path, ours: bool
) -> None:
    out = tmp_path / "out"
    write_report([multirun_folder()], out)
    own = [out / "notes.csv", out / "plots" / "mine.svg", out / "plots" / "deep" / "mine.png", out / "comparison.txt"]
    own[2].parent.mkdir()
    for path in own:
        path.write_text("mine")
    if not ours:
        (out / "report.html").write_text("<html>of somebody else</html>")
    earlier = {path for path in out.rglob("*") if path.is_file()}
    write_report([run_folder("l2")], out)
    now = {path for path in out.rglob("*") if path.is_file()}
    assert {*own, out / "report.html", out / "plots" / "task_1.png", out / "plots" / "loss_l2.png"} <= now
    left = {out / name for name in ("comparison.csv", "comparison.md", "comparison.tex", "pairs.csv")}
    left |= {out / "plots" / "loss_ewc.png", out / "plots" / "avg_accuracy.png"}
    assert left <= earlier
    assert left & now == (set() if ours else left)


def test_failed_and_missing_cells_are_named_at_the_top(multirun_folder: Write) -> None:
    folder = multirun_folder(absent=[("ewc", 1)])
    path = folder / "000_strategy=finetune_seed=0" / "metrics.json"
    failed = json.loads(path.read_text()) | {"status": "failed", "final": False, "error": "the loss is not finite"}
    path.write_text(json.dumps(failed))
    report = page(folder)
    top = report.text[: report.text.index("Average accuracy")]
    assert "2 of 9 runs did not finish" in top
    assert "failed 000_strategy=finetune_seed=0 the loss is not finite" in top
    assert "missing 004_strategy=ewc_seed=1" in top
    # seeds 1 and 2: 0.598 and 0.604; t(0.975, 1) = 12.706205
    assert report.row("finetune")[1] == "60.10 ± 3.81"
    assert report.row("finetune")[-1] == "2 of 3"
    assert "finetune: two seeds, so the interval is so wide that it says little" in report.text


def test_one_seed_has_no_interval_and_the_report_says_so(multirun_folder: Write) -> None:
    report = page(multirun_folder([("finetune", 0), ("ewc", 0)]))
    assert report.row("finetune")[1] == "59.20"
    assert "finetune: one seed, so there is no interval" in report.text


@pytest.mark.parametrize(("seeds", "noted"), [((0, 1, 2), False), ((0, 1), True), ((1, 2, 3), True)])
def test_means_over_different_seeds_are_pointed_out(
    multirun_folder: Write, seeds: tuple[int, ...], noted: bool
) -> None:
    cells = [("ewc", seed) for seed in (0, 1, 2)] + [("finetune", seed) for seed in seeds]
    assert ("Not all means are over the same seeds" in page(multirun_folder(cells)).text) is noted


def test_a_multirun_of_which_nothing_finished(multirun_folder: Write) -> None:
    cells = [("ewc", 0), ("joint", 0)]
    report = page(multirun_folder(cells, absent=cells))
    assert "2 of 2 runs did not finish" in report.text
    assert "ewc: no run has finished, so there is no number" in report.text


def test_single_run(run_folder: Write) -> None:
    report = page(run_folder())
    assert "ewc on permuted digits" in report.text
    assert "Average accuracy83.20 %" in report.text
    assert report.row("task 2")[1:3] == ["92.0", "96.0"]
    assert report.row("ewc")[1] == "77.70"
    assert "held out of the training data" in report.text
    assert "One run with one seed" in report.text
    assert "cl-fisher run strategy=ewc seed=0" in report.text
    assert "strength: 100" in report.text
    assert report.row("torch") == ["torch", "2.14.1"]
    assert "did not finish" not in report.text
    assert "Forgetting30.00 %" in report.text
    assert not (Path(run_folder(name="other")) / "comparison.csv").exists()


@pytest.mark.parametrize("status", ["running", "interrupted", "failed"])
def test_an_unfinished_run_is_marked_and_shows_what_it_has(run_folder: Write, status: str) -> None:
    report = page(run_folder(status=status, final=False, accuracy=[[0.9, 0.1], [0.7, 0.8]]))
    assert "1 of 1 run did not finish" in report.text
    assert status in report.text
    assert report.row("task 2")[1:] == ["70.0", "80.0"]
    assert "as far as the run came" in report.text


@pytest.mark.parametrize("status", ["running", "interrupted", "failed"])
def test_a_run_that_ended_after_its_first_task_is_no_joint_training(run_folder: Write, status: str) -> None:
    report = page(run_folder(status=status, final=False, accuracy=[[0.9, 0.1, 0.12, 0.13, 0.14]]))
    assert report.row("task 1")[1:] == ["90.0", "10.0", "12.0", "13.0", "14.0"]
    assert not any(row[0] == "all" for row in report.rows if row)
    assert sum("own" in (attributes.get("class") or "").split() for tag, attributes in report.tags if tag == "td") == 1
    assert "Joint training is measured once" not in report.text


def test_an_interrupted_multirun_is_one_group(multirun_folder: Write) -> None:
    cells = [("ewc", 0), ("ewc", 1)]
    report = page(multirun_folder(cells, absent=[("ewc", 1)], typed=False, status="interrupted", final=False))
    assert report.row("ewc")[-1] == "0 of 2"
    assert "interrupted 000_seed=0" in report.text
    assert "missing 001_seed=1" in report.text
    assert report.row("ewc", "1") == ["ewc", "1", "missing", "–", "–"]  # noqa: RUF001


def test_the_number_of_parameters_is_a_fact(run_folder: Write, tmp_path: Path) -> None:
    folders = [run_folder(name="a"), run_folder("l2", name="b", n_parameters=1000)]
    assert "Parameters178,110" in page(folders[0]).text
    assert "Parameters1,000 to 178,110" in page(*folders, out=tmp_path / "out").text


def test_a_run_with_nothing_but_a_status(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text('{"status": "running", "n_tasks": 5, "accuracy": []}')
    report = page(tmp_path)
    assert "1 of 1 run did not finish" in report.text
    assert "no config.yaml" in report.text


def test_a_run_that_wrote_no_metrics(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    report = page(tmp_path)
    assert "missing" in report.text
    assert "seed: 0" in report.text


def test_what_users_typed_is_shown_and_not_executed(multirun_folder: Write) -> None:
    evil = "<script>alert(1)</script>"
    folder = multirun_folder([(f"x{i}", 0) for i in range(2)], command=evil, versions={evil: evil})
    for cell in folder.glob("0*"):
        (cell / "config.yaml").write_text(f"seed: 0\nname: {evil}\n")
        metrics = json.loads((cell / "metrics.json").read_text())
        (cell / "metrics.json").write_text(json.dumps(metrics | {"dataset": evil}))
    listed = json.loads((folder / "multirun.json").read_text())
    for cell in listed["cells"]:
        cell["overrides"][0] = f"strategy={evil}{cell['folder']}"
    (folder / "multirun.json").write_text(json.dumps(listed))
    report = page(folder)
    assert [attributes for tag, attributes in report.tags if tag == "script"] == [{}]
    assert "alert(1)" not in report.source.split("<script>")[1]
    assert report.text.count(evil) >= 6


def test_an_error_is_escaped(run_folder: Write) -> None:
    report = page(run_folder(status="failed", error="<script>alert(1)</script>"))
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in report.source


def test_several_folders_are_compared_in_a_place_of_their_own(
    run_folder: Write, multirun_folder: Write, tmp_path: Path
) -> None:
    folders = [multirun_folder([("ewc", 0), ("ewc", 1)]), run_folder("ewc", 2), run_folder("l2", 0, name="l2")]
    report = page(*folders, out=tmp_path / "deep" / "out")
    assert report.row("ewc")[1] == "83.80 ± 1.49"
    assert report.row("l2")[1] == "75.20"
    assert (tmp_path / "deep" / "out" / "comparison.csv").exists()
    assert not (folders[0] / "report.html").exists()
    with pytest.raises(InputError, match="-o OUT"):
        write_report(folders)


def test_a_repeated_seed_and_different_software_are_pointed_out(run_folder: Write, tmp_path: Path) -> None:
    folders = [run_folder(name="a"), run_folder(name="b", versions={"torch": "2.9"})]
    report = page(*folders, out=tmp_path / "out")
    assert "seed 0 was run more than once; only the last one counts" in report.text
    assert "Not all runs were made with the same software" in report.text
    assert report.row("torch") == ["torch", "2.14.1, 2.9"]


def test_runs_of_different_length_are_two_settings(run_folder: Write, tmp_path: Path) -> None:
    folders = [run_folder(name="a"), run_folder(name="b", n_tasks=2, accuracy=[[0.9, 0.1], [0.7, 0.8]])]
    report = page(*folders, out=tmp_path / "out")
    assert report.row("ewc, n_tasks=5")[1] == "83.20"
    assert report.row("ewc, n_tasks=2")[-1] == "1"


def test_a_long_sequence_draws_some_of_its_tasks(run_folder: Write) -> None:
    n = 30
    matrix = [[0.5] * n for _ in range(n)]
    report = page(run_folder(accuracy=matrix, n_tasks=n))
    assert "12 of 30 tasks are drawn" in report.text
    assert "Task 30" in report.text


def test_fifty_tasks_make_a_page_of_reasonable_weight(run_folder: Write) -> None:
    n = 50
    folder = run_folder(accuracy=[[0.5 + 0.004 * j for j in range(n)] for _ in range(n)], n_tasks=n)
    lines = [f"{1 + i // 40},1,{1 + i % 40},{i + 1},{2 / (1 + i % 40)},0.01" for i in range(40 * n)]
    (folder / "steps.csv").write_text("\n".join(["task,epoch,step,global_step,loss,penalty", *lines]))
    path = write_report([folder])
    assert path.stat().st_size < 2_000_000
    assert len(Page(path).row("task 50")) == 51


def test_curves_that_are_not_finite_can_be_drawn(run_folder: Write) -> None:
    folder = run_folder(status="failed", final=False)
    (folder / "steps.csv").write_text(
        "task,epoch,step,global_step,loss,penalty\n1,1,1,1,2.5,0\n1,1,2,2,inf,inf\n1,1,3,3,nan,\n"
    )
    assert "Loss and penalty" in page(folder).text


def test_no_run_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no run folder"):
        write_report([tmp_path])
    assert not list(tmp_path.iterdir())


def test_names_that_differ_only_in_what_a_file_name_cannot_hold(multirun_folder: Write) -> None:
    folder = multirun_folder([("a b", 0), ("a_b", 0)])
    write_report([folder])
    assert len(list((folder / "plots").glob("loss_a_b*.png"))) == 2


def test_a_finished_run_without_its_tables_among_others(multirun_folder: Write) -> None:
    folder = multirun_folder([("ewc", 0), ("l2", 0)])
    for name in ("accuracy.csv", "steps.csv", "fisher.csv"):
        (folder / "000_strategy=ewc_seed=0" / name).unlink()
    assert page(folder).row("ewc")[1] == "83.20"


def test_paired_comparison_and_ranks(multirun_folder: Write) -> None:
    report = page(multirun_folder())
    assert "Paired comparison" in report.text
    assert report.row("finetune − joint") == ["finetune − joint", "−36.20 ± 0.99", "< 0.001", "< 0.001", "3"]  # noqa: RUF001
    assert report.row("finetune − ewc")[2:] == ["–", "–", "3"]  # noqa: RUF001
    assert report.row("ewc", "1.00")[2] == "1.50"  # both learn their tasks equally well
    bold = report.source.count("<b>")
    assert "<b>83.80 ± 1.49</b>" in report.source
    assert "<b>96.00" not in report.source  # a bound is no winner
    assert bold > 5


def test_a_single_run_and_single_seeds_have_no_paired_comparison(run_folder: Write, multirun_folder: Write) -> None:
    assert "Paired comparison" not in page(run_folder()).text
    assert "Paired comparison" not in page(multirun_folder([("ewc", 0), ("finetune", 0)])).text


def test_continual_evaluation_is_drawn_by_group(multirun_folder: Write) -> None:
    folder = multirun_folder([("ewc", 0), ("ewc", 1), ("finetune", 0)], stability_gap=0.123)
    assert "Accuracy within tasks" not in page(folder).text
    for cell in folder.glob("0*"):
        write_continual(cell)
    report = page(folder)
    assert "Accuracy within tasks" in report.text
    labels = [attributes.get("aria-label") or "" for tag, attributes in report.tags if tag == "svg"]
    assert sum(label.startswith("Accuracy of each task within tasks, ") for label in labels) == 2
    assert "Accuracy of each task within tasks, finetune: Stability gap 12.30" in labels
    assert report.row("finetune", "12.30") == ["finetune", "12.30", "1"]
    assert {path.stem for path in (folder / "plots").glob("during*")} == {"during_ewc", "during_finetune"}


def test_a_run_of_which_every_step_was_measured_makes_a_page_of_reasonable_weight(run_folder: Write) -> None:
    folder = run_folder(n_tasks=20)
    write_continual(folder, n_tasks=20, steps=600)
    assert write_report([folder]).stat().st_size < 2_000_000


def test_the_curve_over_a_number_is_in_the_report(multirun_folder: Write) -> None:
    folder = multirun_folder([("ewc", 0), ("ewc", 1)] * 3)
    listed = json.loads((folder / "multirun.json").read_text())
    for i, cell in enumerate(listed["cells"]):
        cell["overrides"].append(f"strategy.strength={[1, 100, 10000][i // 2]}")
    (folder / "multirun.json").write_text(json.dumps(listed))
    report = page(folder)
    assert "Average accuracy (%) against strategy.strength" in report.text
    assert (folder / "plots" / "sweep_strategy.strength.png").exists()
    assert "against strategy" not in page(multirun_folder(name="other")).text


def test_a_strategy_has_the_same_colour_in_the_curve_as_elsewhere(multirun_folder: Write) -> None:
    folder = multirun_folder([("joint", 0), ("ewc", 0)] * 3)
    listed = json.loads((folder / "multirun.json").read_text())
    for i, cell in enumerate(listed["cells"]):
        cell["overrides"].append(f"strategy.strength={[1, 100, 10000][i // 2]}")
    (folder / "multirun.json").write_text(json.dumps(listed))
    gallery = Gallery(folder / "plots", group_runs(read_source(folder).runs))
    assert [(name, style.name) for name, style in gallery.sweep()["legend"]] == [("joint", "green"), ("ewc", "blue")]
    assert [style.name for style in gallery.styles[:2]] == ["green", "blue"]


def test_of_several_estimates_within_a_task_the_last_is_shown_and_the_report_says_so(run_folder: Write) -> None:
    folder = run_folder()
    assert "several estimates within a task" not in page(folder).text
    with (folder / "config.yaml").open("a") as file:
        file.write("consolidate_every: 5\n")
    assert "several estimates within a task, its last is shown; fisher.csv has all" in page(folder).text


@pytest.mark.parametrize(
    ("n", "title"),
    [(2, "ewc, strategy.strength=0 and ewc, strategy.strength=1 on"), (3, "3 settings on")],
)
def test_the_title_names_settings_that_are_few(multirun_folder: Write, n: int, title: str) -> None:
    folder = multirun_folder([("ewc", 0)] * n)
    listed = json.loads((folder / "multirun.json").read_text())
    for i, cell in enumerate(listed["cells"]):
        cell["overrides"].append(f"strategy.strength={i}")
    (folder / "multirun.json").write_text(json.dumps(listed))
    assert f"<h1>{title} permuted digits</h1>" in page(folder).source


def test_costs_of_which_half_a_row_is_there(run_folder: Write) -> None:
    folder = run_folder(status="running")
    table = (folder / "costs.csv").read_text().splitlines()
    (folder / "costs.csv").write_text("\n".join([*table[:2], "2,2.0,0.3"]))
    report = page(folder)
    assert ["2", "2.00", "0.30", "–", "–", "–", "–"] in report.rows  # noqa: RUF001
    assert "nan" not in report.text


def test_costs_by_task(multirun_folder: Write, run_folder: Write) -> None:
    report = page(multirun_folder())
    expected = ["ewc", "2", "3.00", "0.30", "0.10", "500.0 MB", "7.0 MB", "1.00"]
    assert expected in report.rows
    assert page(run_folder()).row("5", "2.00") == ["5", "2.00", "0.30", "0.10", "500.0 MB", "7.0 MB", "1.00"]
