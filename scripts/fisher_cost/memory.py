"""Peak resident memory of a method beyond what model, data and libraries take, each in a process of its own."""

import ctypes
import gc
import multiprocessing
import os
import resource
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from fisher_cost.cases import CASES, Case
from fisher_cost.clock import reason
from fisher_cost.floors import attention_without_fast_path
from fisher_cost.methods import OURS, Method, training_step
from fisher_cost.peers import PEERS

LIMIT = 10 * 2**30
"""Bytes that a process of the benchmark may hold: what needs more is told so, and the machine stays usable."""
BATCH, BATCHES = 128, 2
STEP = Method("torch", "training step", training_step)


def limit() -> None:
    """Makes an allocation beyond the limit fail."""
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))


def extra(case: Case, method: Method, size: int) -> float | str:
    """MiB over two batches, or why not. The fork server has imported everything before."""
    if sys.platform != "linux":
        return "memory is measured on Linux only"
    # the fork server is not told sys.path, and would look into the current folder first
    os.environ |= {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONSAFEPATH": "1"}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["fisher_cost.memory"])
    try:
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            return pool.submit(_extra, case.name, method.name, size).result()
    except Exception as error:
        return reason(error)


def _extra(case_name: str, method_name: str, size: int) -> float | str:
    limit()
    warnings.simplefilter("ignore")
    attention_without_fast_path()
    torch.set_num_threads(1)
    case = CASES[case_name]
    method = next(m for m in (*OURS, *PEERS, STEP) if m.name == method_name)
    torch.manual_seed(0)
    model = case.network().eval()
    inputs, targets = case.data(BATCHES * size)
    try:
        method.run(model, inputs[:2], targets[:2], 2)  # what is imported or compiled once
        model.zero_grad()
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before = resident("VmRSS")
        method.run(model, inputs, targets, size)
        return resident("VmHWM") - before
    except Exception as error:
        return reason(error)


def resident(field: str) -> float:
    """MiB of this process: VmRSS now, VmHWM at the peak."""
    line = next(s for s in Path("/proc/self/status").read_text().splitlines() if s.startswith(field))
    return int(line.split()[1]) / 1024
