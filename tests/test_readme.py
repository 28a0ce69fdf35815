"""README.md and experiments/*/README.md do what they say: every command and every Python block is run."""

import csv
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import cl_fisher
from cl_fisher.cli.main import main

ROOT = Path(cl_fisher.__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "experiments").glob("*/README.md"))]
QUICK = ["logger=none", "n_tasks=2", "iterations=2", "verbosity=0", "fisher.samples=20"]
SET_UP = ("./scripts/test", "pip ", "CL_FISHER_", "eval ")


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def commands():
    for page in PAGES:
        for block in blocks(page, "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words and not shlex.join(words).startswith(SET_UP):
                    yield pytest.param(words, id=f"{page.parent.name}: {shlex.join(words)}")


def named_files():
    """The blocks that begin with the name of the file that they are."""
    for language in ("python", "yaml"):
        for block in blocks(README, language):
            first, _, _ = block.partition("\n")
            if re.fullmatch(r"# [\w/]+\.(py|yaml)", first):
                yield first[2:], block


@pytest.mark.parametrize("words", list(commands()))
def test_command(words, tmp_path, monkeypatch):
    """In its quick form: two tasks of two steps, the first seed of a sweep."""
    for name, text in named_files():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    if words[0] == "./scripts/run":
        words = ["cl-fisher", "run", *(words[1:] or ["-m", "strategy=finetune,ewc,joint", "seed=0,1,2"])]
    if words[:2] == ["./scripts/bench", "fisher"]:
        quick_bench_fisher(words[2:])
        return
    if words[:2] == ["./scripts/bench", "accuracy"]:
        quick_bench_accuracy(words[2:])
        return
    if words[0] == "./scripts/bench":
        bench = [sys.executable, str(ROOT / "scripts" / f"bench_{words[1]}.py"), "--rounds", "1", "--images", "6400"]
        done = subprocess.run(bench, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert re.search(r"50 tasks against 1: [\d.]+x", done.stdout)
        return
    assert words[0] == "cl-fisher"
    shorter = [quick(word, tmp_path) for word in words[1:]]
    if shorter[0] == "run" and "--cfg" not in shorter:
        if (
            any("mnist" in word or word == "experiment=class_incremental" for word in shorter)
            and not (Path(os.environ.get("CL_FISHER_DATA", "")) / "MNIST").is_dir()
        ):
            pytest.skip("needs MNIST: set CL_FISHER_DATA")
        own = {word.partition("=")[0] for word in shorter}
        network = [] if own & {"model", "experiment"} else ["model.hidden=[8]"]
        network += ["model.width=4"] if "model=resnet18_reduced" in shorter else []
        shorter += [*QUICK, *network, "output_dir=out"]
    assert main(shorter) == 0
    assert shorter[0] != "run" or "--cfg" in shorter or (tmp_path / "out" / "report.html").exists()


def quick(word, folder):
    """The first seed, the first and the last of many strengths, and small files in the place of a reader's own."""
    key, _, value = word.partition("=")
    if key == "seed":
        return "seed=0"
    if key == "consolidate_every":  # no more steps than a quick run has
        return f"{key}=2"
    if key in ("strategy.strength", "fisher.likelihood.temperature") and value.count(",") > 1:
        return f"{key}={value.partition(',')[0]},{value.rpartition(',')[2]}"
    if key == "path":
        return f"path={arrays(folder / 'x.npz')}"
    if key == "root":
        return f"root={pictures(folder / 'pictures')}"
    return word


def arrays(file):
    """Ten classes of 3x8x8 noise, four images each."""
    draw, labels = np.random.default_rng(0), np.arange(40) % 10
    x = draw.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    np.savez(file, x_train=x, y_train=labels, x_test=x, y_test=labels)
    return file


def pictures(root):
    """Ten classes of five grey images each."""
    for i in range(50):
        (root / f"class_{i % 10}").mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"class_{i % 10}" / f"{i}.png")
    return root


def quick_bench_fisher(words):
    """Of all cases the smallest, without other libraries; the language model in its small form."""
    case = {"language": "language", "resnet": "confident"}.get(words[words.index("--case") + 1], "mlp")
    bench = [sys.executable, str(ROOT / "scripts" / "bench_fisher.py"), "--quick", "--case", case, "--out", "costs"]
    done = subprocess.run(bench, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with open(f"costs/{case}.csv", newline="") as file:
        rows = {row["estimate"]: row for row in csv.DictReader(file) if row["library"] == "cl_fisher"}
    assert case == "confident" or float(rows["empirical"]["ratio"]) > 0
    assert case == "language" or float(rows["exact"]["error"]) < 1e-5
    if case == "mlp":
        assert float(rows["empirical"]["floor"]) == 1.0
        assert float(rows["exact"]["error"]) < 1e-5


def bench_accuracy(*words):
    bench = [sys.executable, str(ROOT / "scripts" / "bench_accuracy.py"), *words]
    done = subprocess.run(bench, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def quick_bench_accuracy(words):
    """On digits instead of MNIST, a few steps; `--show` as it stands."""
    if "--show" in words:
        assert "| PASS |" in bench_accuracy("--show", str(ROOT / words[words.index("--show") + 1]))
        return
    assert "\n| " in bench_accuracy(*words, "--quick", "--out", "accuracy")
    if "--only" in words:
        assert [path.stem for path in Path("accuracy").iterdir()] == [words[words.index("--only") + 1]]
        return
    assert Path("accuracy/error_against_cost.png").stat().st_size > 10_000
    with open("accuracy/error.csv", newline="") as file:
        errors = {(row["epochs"], row["estimator"], row["K"]): float(row["error"]) for row in csv.DictReader(file)}
    for epochs in ("1", "4"):
        assert max(errors[epochs, "exact", ""], errors[epochs, "stratified", "10"]) < 1e-5
        assert errors[epochs, "stratified", "3"] < errors[epochs, "monte_carlo", "3"] < errors[epochs, "empirical", ""]
    with open("accuracy/conventions.csv", newline="") as file:
        for row in csv.DictReader(file):
            if row["distance_from_ours"]:  # of N - 1 instead of N, on 256 examples
                assert float(row["distance_from_ours"]) < 1.01 / 255


def test_tables_of_the_accuracy_study_are_those_of_its_files():
    folder = ROOT / "experiments" / "fisher_accuracy"
    page = (folder / "README.md").read_text()
    shown = [line for line in bench_accuracy("--show", str(folder)).splitlines() if line.startswith("|")]
    assert len(shown) > 40
    assert [line for line in shown if line not in page] == []


@pytest.mark.parametrize(
    "block", [b for b in blocks(README, "python") if not b.startswith("# my_")], ids=lambda b: b[:40]
)
def test_python(block, tmp_path):
    """As a reader would try it: pasted into a file, in a fresh process."""
    (tmp_path / "paste.py").write_text(block)
    done = subprocess.run([sys.executable, "paste.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_own_parts_take_under_30_lines():
    files = dict(named_files())
    own = {"my_strategy.py", "my_data.py", "my_model.py", "my_estimator.py"}
    assert {name for name in files if name.endswith(".py")} == own
    for text in files.values():
        assert len(text.splitlines()) < 30
    targets = [yaml.safe_load(text)["_target_"] for name, text in files.items() if name.endswith(".yaml")]
    assert {target.split(".")[0] + ".py" for target in targets if target.startswith("my_")} == own


def test_every_choice_of_the_groups_table_exists_and_is_named():
    text = README.read_text()
    groups = ("benchmark", "scenario", "dataset", "strategy")
    for group in (*groups, "fisher/estimator", "fisher/structure", "fisher/likelihood"):
        row = next(line for line in text.splitlines() if line.startswith(f"| `{group}`"))
        named = set(re.findall(r"`(\w+)`", row.split("|")[2]))
        assert named == {p.stem for p in (ROOT / "conf" / group).glob("*.yaml")}


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert target.startswith("http") or (page.parent / target).exists(), target
