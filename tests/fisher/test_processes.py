"""Several processes, each with its share of the examples, find the Fisher that one process finds."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cl_fisher.error import InputError
from cl_fisher.fisher import estimate_fisher, load_fisher

WORKER = Path(__file__).with_name("one_of_several.py")
_spec = importlib.util.spec_from_file_location("one_of_several", WORKER)
worker = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(worker)


@pytest.fixture(scope="module", params=[2, 3])
def folder(request, tmp_path_factory):
    """What each of two, and of three, processes found in each case."""
    out = tmp_path_factory.mktemp("processes")
    commands = [
        [sys.executable, "-W", "ignore", str(WORKER), str(rank), str(request.param), str(out / "rendezvous"), str(out)]
        for rank in range(request.param)
    ]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    errors = [process.communicate(timeout=300)[1] for process in running]
    assert all(process.returncode == 0 for process in running), errors
    return out


@pytest.mark.parametrize("number", range(len(worker.CASES)))
def test_the_result_is_that_of_one_process(folder, number):
    alone = worker.estimate(worker.share(0, 1, 31), worker.CASES[number], False)
    found = [load_fisher(path) for path in sorted(folder.glob(f"{number}-*.safetensors"))]
    assert len(found) > 1
    for fisher in found:
        assert fisher.info.pop("trace_caught", 0) == pytest.approx(alone.info.get("trace_caught", 0), abs=1e-5)
        assert fisher.info.items() <= alone.info.items()
        for name, tensor in alone.tensors().items():
            size = float(tensor.abs().max())
            tolerance = 1e-5 if fisher.kind == "low_rank" else 1e-6  # of a sketch, by its small eigenvalues
            torch.testing.assert_close(fisher.tensors()[name], tensor, rtol=1e-5, atol=tolerance * size)


def test_without_a_process_group_it_is_refused():
    with pytest.raises(InputError, match="init_process_group"):
        estimate_fisher(worker.network(), worker.share(0, 1, 31), distributed=True)
