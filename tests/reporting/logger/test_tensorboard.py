import builtins
import warnings

import pytest

from cl_fisher.error import InputError
from cl_fisher.reporting.logger.tensorboard import TensorBoardLogger

with warnings.catch_warnings():  # of its protocol buffers, not of ours
    warnings.simplefilter("ignore")
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def read(folder):
    events = accumulator.EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return events


def test_whole_run(tmp_path, events):
    logger = TensorBoardLogger(directory=tmp_path)
    for event in events:
        logger.handle(event)
    written = read(tmp_path)
    assert [(e.step, e.value) for e in written.Scalars("train/loss")] == [(1, 2.5), (2, 1.25), (3, 0.75), (4, 0.5)]
    assert [e.step for e in written.Scalars("test/acc/task_1")] == [0, 1, 2]
    assert [e.step for e in written.Scalars("test/acc/task_2")] == [2]
    assert [(e.step, e.value) for e in written.Scalars("cl/avg_accuracy")] == [(1, pytest.approx(0.9)), (2, 0.75)]
    assert [e.value for e in written.Scalars("fisher/trace")] == [1.5, 3.0]
    assert "cl/fwt" not in written.Tags()["scalars"]
    assert written.Tags()["images"] == ["accuracy_matrix"]
    assert "config/text_summary" in written.Tags()["tensors"]


def test_resume_and_failure(tmp_path, failed, resumed):
    for part in (failed[:9], resumed):
        logger = TensorBoardLogger(directory=tmp_path)
        logger.load_state_dict({})
        for event in part:
            logger.handle(event)
        logger.handle(failed[-1])
    assert [e.step for e in read(tmp_path).Scalars("train/loss")] == [1, 2, 3, 4]


def test_not_installed(tmp_path, monkeypatch):
    original = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "torch.utils.tensorboard":
            raise ModuleNotFoundError("No module named 'tensorboard'")
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"pip install 'cl_fisher\[tensorboard\]'"):
        TensorBoardLogger(tmp_path)
