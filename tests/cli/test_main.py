import subprocess
import sys

import pytest

import cl_fisher

LIGHT = [
    ["--help"],
    ["--version"],
    [],
    ["run", "--help"],
    ["run", "--cfg", "job"],
    ["run", "strategy=ewcc"],
    ["run", "strategy.strength=-1"],
    ["run", "+strategy.strenght=1"],
    ["run", "-m", "strategy=finetune,ewc,joint", "seed=0,-1"],
    ["report", "--help"],
    ["report", "nowhere"],
    ["list"],
    ["list", "strategy"],
    ["completion", "bash"],
]


@pytest.mark.parametrize("argv", LIGHT, ids=" ".join)
def test_what_needs_no_torch_imports_none(argv, tmp_path):
    code = (
        "import sys; sys.argv[0] = 'cl-fisher'\n"
        "from cl_fisher.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'lightning', 'wandb', 'pandas', 'matplotlib', 'sklearn'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, *argv], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_version(cli, capsys):
    with pytest.raises(SystemExit) as left:
        cli("--version")
    assert left.value.code == 0
    assert capsys.readouterr().out == f"cl-fisher {cl_fisher.__version__}\n"


@pytest.mark.parametrize("argv", [["--help"], ["report", "--help"], ["list", "--help"], ["completion", "-h"]])
def test_help(cli, capsys, argv):
    with pytest.raises(SystemExit) as left:
        cli(*argv)
    assert left.value.code == 0
    assert "usage: cl-fisher" in capsys.readouterr().out


def test_without_arguments_the_verbs_are_listed(cli):
    status, out, _ = cli()
    assert status == 0
    assert all(verb in out for verb in ("run", "report", "list", "completion"))


def test_as_a_module():
    done = subprocess.run([sys.executable, "-m", "cl_fisher", "list", "model"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "mlp" in done.stdout
