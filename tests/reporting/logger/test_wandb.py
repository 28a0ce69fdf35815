import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import wandb
from wandb.proto import wandb_internal_pb2

from cl_fisher.event import RunStarted
from cl_fisher.reporting.logger import wandb as module
from cl_fisher.reporting.logger.wandb import WandbLogger


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    """No test asks for a network or touches the home of the person who runs it."""
    for name in [name for name in os.environ if name.startswith("WANDB_") and name != "WANDB_SERVICE"]:
        monkeypatch.delenv(name)
    for name in ("DATA", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(WandbLogger, "_unreachable", False)
    yield
    wandb.teardown()


def records(file: Path) -> Iterator[wandb_internal_pb2.Record]:
    """A .wandb file is a LevelDB log: blocks of 32 KiB, chunks of (checksum 4, length 2, kind 1, bytes)."""
    data, position, content = file.read_bytes(), 7, b""
    while position + 7 <= len(data):
        if (left := 32768 - position % 32768) < 7:
            position += left
            continue
        length, kind = int.from_bytes(data[position + 4 : position + 6], "little"), data[position + 6]
        content += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # the whole record, or its last chunk
            record = wandb_internal_pb2.Record()
            record.ParseFromString(content)
            content = b""
            yield record


def read(folder: Path, which: int = 0) -> SimpleNamespace:
    """What one wandb run under `folder` has recorded."""
    wandb.teardown()  # its process writes a little after a run is finished
    run = SimpleNamespace(history=[], summary={}, axes={}, exit_code=None)
    files = sorted((folder / "wandb").glob("offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns)
    for record in records(files[which]):
        match record.WhichOneof("record_type"):
            case "run":
                run.start = record.run
                run.config = {item.key: json.loads(item.value_json) for item in record.run.config.update}
            case "history":
                run.history.append(
                    {(i.key or "/".join(i.nested_key)): json.loads(i.value_json) for i in record.history.item}
                )
            case "summary":
                run.summary |= {i.key: json.loads(i.value_json) for i in record.summary.update if i.key}
            case "metric" if record.metric.step_metric:
                run.axes[record.metric.glob_name] = record.metric.step_metric
            case "exit":
                run.exit_code = record.exit.exit_code
    return run


def record(folder: Path, events, **kwargs) -> WandbLogger:
    folder.mkdir(exist_ok=True)
    logger = WandbLogger(project="p", directory=folder, **kwargs)
    for event in events:
        logger.handle(event)
    return logger


def curve(run: SimpleNamespace, key: str, axis: str) -> list[tuple[float, float]]:
    return [(row[axis], row[key]) for row in run.history if key in row]


def test_whole_run(tmp_path, events, capfd):
    record(tmp_path / "run", events, tags=["a"])
    run = read(tmp_path / "run")
    assert curve(run, "train/loss", "global_step") == [(1, 2.5), (2, 1.25), (3, 0.75), (4, 0.5)]
    assert curve(run, "train/penalty", "global_step") == [(1, 0), (2, 0), (3, 0.25), (4, 0.5)]
    assert curve(run, "test/acc/task_1", "task") == [(0, 0.1), (1, 0.9), (2, 0.8)]
    assert curve(run, "test/acc/task_2", "task") == [(2, 0.7)]
    assert curve(run, "cl/avg_accuracy", "task") == [(1, 0.9), (2, 0.75)]
    assert curve(run, "cl/forgetting", "task") == [(2, 0.1)]
    assert curve(run, "fisher/trace", "task") == [(1, 1.5), (2, 3.0)]
    assert curve(run, "cl/fwt", "task") == []
    steps = [row["_step"] for row in run.history]
    assert steps == list(range(len(steps)))
    families = {"test/acc/*": "task", "cl/*": "task", "fisher/*": "task", "train/*": "global_step"}
    assert families.items() <= run.axes.items()
    assert {key: run.config[key] for key in events[0].config} == events[0].config
    assert (run.start.project, run.start.display_name, list(run.start.tags)) == ("p", "ewc seed=0", ["a"])
    assert {"cl/avg_accuracy": 0.75, "cl/bwt": -0.1, "status": "finished"}.items() <= run.summary.items()
    assert run.exit_code == 0
    assert capfd.readouterr() == ("", "")


def test_matrix_as_table_and_as_image(tmp_path, events):
    record(tmp_path / "run", events)
    last = read(tmp_path / "run").history[-1]
    assert (last["accuracy_matrix/_type"], last["accuracy_heatmap/_type"]) == ("table-file", "image-file")
    files = next((tmp_path / "run" / "wandb").glob("offline-run-*/files"))
    assert (files / last["accuracy_heatmap/path"]).read_bytes().startswith(b"\x89PNG")
    table = json.loads((files / last["accuracy_matrix/path"]).read_text())
    assert table["columns"] == ["task_1", "task_2"]
    assert table["data"] == [[0.9, None], [0.8, 0.7]]


def test_two_runs_in_one_process(tmp_path, events, failed):
    ids = {record(tmp_path / name, run).state_dict()["id"] for name, run in (("a", events), ("b", failed))}
    assert len(ids) == 2
    assert len(list((tmp_path / "a" / "wandb").glob("offline-run-*"))) == 1
    assert (read(tmp_path / "a").exit_code, read(tmp_path / "b").exit_code) == (0, 1)
    assert wandb.run is None


def test_resume_goes_on_with_the_same_run(tmp_path, failed, resumed):
    first = record(tmp_path, failed[:9])
    state = json.loads(json.dumps(first.state_dict()))
    for event in failed[9:]:
        first.handle(event)
    second = WandbLogger(project="p", directory=tmp_path)
    second.load_state_dict(state)
    assert second.state_dict() == state
    for event in resumed:
        second.handle(event)
    before, after = read(tmp_path, 0), read(tmp_path, 1)
    assert after.start.run_id == before.start.run_id == state["id"]
    assert after.start.resume
    assert after.history[0]["_step"] == state["step"] == 7
    assert curve(after, "train/loss", "global_step") == [(3, 0.75), (4, 0.5)]


def test_cells_of_a_multirun_are_grouped(tmp_path, events):
    (tmp_path / "multirun.json").write_text("{}")
    record(tmp_path / "cell", events[:2])
    assert read(tmp_path / "cell").start.run_group == tmp_path.name
    assert WandbLogger("p", tmp_path / "cell", group="mine").group == "mine"
    assert WandbLogger("p", tmp_path).group is None


def test_a_run_of_the_caller_is_left_alone(tmp_path, events):
    own = wandb.init(dir=tmp_path, settings=wandb.Settings(silent=True))
    logger = record(tmp_path / "run", events)
    assert wandb.run is own
    assert own.id != logger.state_dict()["id"]
    assert own.step == 0


def test_name_tells_what_was_typed():
    event = RunStarted(2, 2, {"seed": 3}, {"strategy": "ewc"}, ("scenario=task", "seed=3", "strategy=ewc"))
    assert module._name(event) == "ewc scenario=task seed=3"


def test_disabled(tmp_path, events, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    logger = record(tmp_path / "run", events)
    assert list((tmp_path / "run").iterdir()) == []
    assert logger.state_dict()["id"] is None


@pytest.mark.parametrize("moment", ["init", "Image"])
def test_failure_of_wandb_is_a_line(tmp_path, events, monkeypatch, capsys, moment):
    def fail(*_, **__):
        raise OSError("disk\nfull")

    monkeypatch.setattr(wandb, moment, fail)
    record(tmp_path / "run", events)
    assert capsys.readouterr().err == "wandb: disk full; the run goes on without it\n"
    if moment == "Image":
        assert read(tmp_path / "run").exit_code == 0


@pytest.mark.parametrize(
    ("variable", "logged_in", "mode", "note"),
    [
        (None, False, "offline", ""),
        (None, True, "online", ""),
        ("online", True, "online", ""),
        ("online", False, "offline", "nobody is logged in"),
        ("offline", True, "offline", ""),
    ],
)
def test_mode(monkeypatch, capsys, variable, logged_in, mode, note):
    monkeypatch.delenv("WANDB_MODE")
    if variable:
        monkeypatch.setenv("WANDB_MODE", variable)
    monkeypatch.setattr(wandb, "login", lambda *, prompt, verify: logged_in and not prompt and not verify)
    assert module._mode() == mode
    assert note in capsys.readouterr().err


@pytest.mark.parametrize(
    ("mode", "note"),
    [("", ""), ("of", "wandb: WANDB_MODE=of is not one of online, offline, disabled; recording offline\n")],
)
def test_a_mode_that_wandb_does_not_know(tmp_path, events, monkeypatch, capsys, mode, note):
    monkeypatch.setenv("WANDB_MODE", mode)
    monkeypatch.setattr(wandb, "login", lambda **_: False)
    record(tmp_path / "run", events)
    assert capsys.readouterr().err == note
    assert read(tmp_path / "run").exit_code == 0


SCRIPT = """
import sys
from pathlib import Path
from cl_fisher.event import RunEnded, RunStarted
from cl_fisher.reporting.logger import wandb as module
assert "wandb" not in sys.modules
module.INIT_SECONDS = 0.5
for name in sys.argv[1:]:
    Path(name).mkdir()
    logger = module.WandbLogger("p", Path(name))
    logger.handle(RunStarted(1, 1, {"seed": 0}, {"strategy": "ewc"}))
    logger.handle(RunEnded("finished", 0))
"""


@pytest.mark.parametrize("credentials", ["nobody", "malformed", "netrc"])
def test_fresh_machine_without_network_or_terminal(tmp_path, credentials):
    """Nothing is asked; a user who is logged in, with the server away, waits once and records offline."""
    key = "a" * 40
    env = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    env |= {"HOME": str(tmp_path / "home"), "WANDB_BASE_URL": "http://127.0.0.1:9"}
    (tmp_path / "home").mkdir()
    if credentials == "malformed":
        env["WANDB_API_KEY"] = "short"
    if credentials == "netrc":
        (tmp_path / "home" / ".netrc").write_text(f"machine 127.0.0.1:9\n  login user\n  password {key}\n")
        (tmp_path / "home" / ".netrc").chmod(0o600)
    command = [sys.executable, "-c", SCRIPT, "one", "two"]
    done = subprocess.run(
        command, cwd=tmp_path, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert (
        done.stderr.count("\n")
        == done.stderr.count("recording offline\n")
        == {"nobody": 0, "malformed": 2, "netrc": 1}[credentials]
    )
    for name in ("one", "two"):
        assert read(tmp_path / name).exit_code == 0
