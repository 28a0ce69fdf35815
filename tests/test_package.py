"""The wheel, the lazy imports, the set-up files."""

import os
import re
import subprocess
import sys
import zipfile
from importlib.metadata import distributions, version
from pathlib import Path

import pytest

import cl_fisher

ROOT = Path(cl_fisher.__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_carries_every_yaml_and_template(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in (ROOT / "conf").rglob("*.yaml"):
        assert f"cl_fisher/{path.relative_to(ROOT)}" in names
    for path in (ROOT / "cl_fisher").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert str(path.relative_to(ROOT)) in names
    assert not any(name.startswith(("tests/", "scripts/", "conf/")) for name in names)


def test_the_wheel_runs_from_an_empty_folder(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    (tmp_path / "empty").mkdir()
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    where = "import cl_fisher; print(cl_fisher.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", where], cwd=tmp_path / "empty", env=environment, capture_output=True, text=True
    )
    assert str(tmp_path / "site") in found.stdout
    command = [sys.executable, "-m", "cl_fisher", "run", "debug=quick", "model.hidden=[8]", "output_dir=out"]
    done = subprocess.run(command, cwd=tmp_path / "empty", env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "empty" / "out" / "report.html").exists()


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import cl_fisher", ["torch", "lightning", "hydra", "wandb"]),
        ("import cl_fisher.fisher", ["lightning", "hydra", "wandb", "torchvision", "pandas", "scipy"]),
        ("from cl_fisher import EWC", ["lightning", "hydra", "wandb", "torchvision", "pandas", "scipy"]),
    ],
)
def test_imports_stay_lean(statement, absent):
    check = f"{statement}; import sys; print([m for m in {absent!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="EWCC"):
        _ = cl_fisher.EWCC
    assert all(getattr(cl_fisher, name) is not None for name in cl_fisher.__all__)


def test_the_version_is_stated_once():
    assert version("cl_fisher") == cl_fisher.__version__


def test_constraints_pin_what_the_tests_run_with():
    """Every dependency of pyproject.toml, and all that they pull in on any platform, in one file."""
    pins = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / "scripts" / "constraints.txt").read_text(), re.MULTILINE))
    pins = {name.lower().replace("_", "-"): pin for name, pin in pins.items()}
    wanted = re.findall(r'"([\w-]+)>=', (ROOT / "pyproject.toml").read_text())
    assert {name.lower() for name in wanted} - set(pins) == set()
    installed = {d.metadata["Name"].lower().replace("_", "-"): d.version for d in distributions()}
    differing = {
        n: (installed[n], pin) for n, pin in pins.items() if n in installed and installed[n].split("+")[0] != pin
    }
    assert differing == {}


@pytest.mark.parametrize(
    "script", sorted(p.name for p in (ROOT / "scripts").iterdir() if p.is_file() and p.suffix == "")
)
def test_shell_scripts_parse(script):
    subprocess.run(["bash", "-n", str(ROOT / "scripts" / script)], check=True)


def test_setup_does_nothing_twice(tmp_path):
    """A stand-in for python counts how often it is asked to install."""
    venv, log = tmp_path / "venv", tmp_path / "log"
    (venv / "bin").mkdir(parents=True)
    for name in ("python", "cl-fisher"):
        (venv / "bin" / name).write_text(f'#!/usr/bin/env bash\ncase "$*" in *pip*) echo "$*" >>{log} ;; esac\n')
        (venv / "bin" / name).chmod(0o755)

    def setup(*group, **environment):
        subprocess.run(
            [str(ROOT / "scripts" / "setup"), *group], check=True, capture_output=True,
            env=os.environ | {"CL_FISHER_VENV": str(venv)} | environment,
        )  # fmt: skip
        return len(log.read_text().splitlines()) if log.exists() else 0

    assert [setup(), setup()] == [1, 1]
    assert [setup("dev"), setup("dev"), setup()] == [2, 2, 2]  # what has dev has the rest
    assert [setup(CL_FISHER_TORCH="cpu"), setup(CL_FISHER_TORCH="cpu")] == [3, 3]
    assert "--constraint" in log.read_text()
    assert ("download.pytorch.org/whl/cpu" in log.read_text().splitlines()[2]) == (sys.platform == "linux")
