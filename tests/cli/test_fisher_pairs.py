"""Every estimator with every structure, in both strategies, on three tasks; and the pairs that are refused."""

import math

import pytest
from hydra import compose, initialize_config_dir

from cl_fisher.cli import job
from cl_fisher.cli.main import main
from cl_fisher.config import conf_dir, register_resolvers
from cl_fisher.error import InputError
from cl_fisher.event import Consolidated, StepTaken
from cl_fisher.training.stream import Stream

SMALL = ["model.hidden=[16]", "n_tasks=3", "iterations=2", "logger=none", "verbosity=0", "fisher.samples=20"]
ESTIMATORS = sorted(path.stem for path in (conf_dir() / "fisher" / "estimator").glob("*.yaml"))
STRUCTURES = sorted(path.stem for path in (conf_dir() / "fisher" / "structure").glob("*.yaml"))
REFUSED = {("batched_empirical", structure) for structure in STRUCTURES if structure != "diagonal"}
EXTRA = {"implicit": ["checkpoint=none"]}


class Notes:
    """Remembers what was consolidated, and the penalties."""

    def __init__(self):
        self.values, self.penalties = [], []

    def handle(self, event):
        if isinstance(event, Consolidated):
            self.values.append(event.values)
        if isinstance(event, StepTaken):
            self.penalties.append(event.penalty)

    def state_dict(self):
        return {}


def composed(*overrides):
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("config", [*SMALL, *overrides])


@pytest.mark.parametrize("strategy", ["ewc", "online_ewc"])
@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_pair_runs_three_tasks(estimator, structure, strategy, tmp_path):
    if (estimator, structure) in REFUSED:
        pytest.skip("refused; see the test below")
    cfg = composed(
        f"strategy={strategy}",
        f"fisher/estimator={estimator}",
        f"fisher/structure={structure}",
        *EXTRA.get(structure, []),
    )
    notes = Notes()
    stream: Stream = job.assemble(cfg, [notes], tmp_path)
    stream.check()
    summary = stream.run(None)
    assert summary["final"]
    assert [v["structure"] for v in notes.values] == [structure] * 3
    assert all(math.isfinite(v["trace"]) and v["trace"] > 0 for v in notes.values)
    assert max(notes.penalties) > 0


@pytest.mark.parametrize(("estimator", "structure"), sorted(REFUSED))
def test_refused_pairs_say_why_at_once(tmp_path, capsys, estimator, structure):
    chosen = [f"fisher/estimator={estimator}", f"fisher/structure={structure}"]
    assert main(["run", *SMALL, *chosen, f"output_dir={tmp_path / 'run'}"]) == 2
    error = capsys.readouterr().err
    assert "no matrix beyond a diagonal" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["fisher/structure=dense", "model.hidden=[400,400]"], "kronecker"),
        (["fisher/structure=block_diagonal", "model.hidden=[400,400]"], "kronecker"),
        (["fisher/structure=implicit"], "checkpoint=none"),
        (["fisher.sampling=importance", "fisher.samples=null"], "how many"),
        (["fisher.sampling=clever"], "importance"),
    ],
)
def test_what_cannot_be_done_is_refused_before_training(tmp_path, capsys, overrides, message):
    assert main(["run", *SMALL, *overrides, f"output_dir={tmp_path / 'run'}"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_until_is_rehearsed():
    """What a stopping rule cannot do is said before any training."""
    words = ["fisher.until=0.1", "fisher.sampling=importance", "fisher.samples=20"]
    with pytest.raises(InputError, match="equal weight"):
        job.check(composed("strategy=ewc", *words))
