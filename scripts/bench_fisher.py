"""What an estimate of the Fisher costs, as a multiple of a plain forward and backward pass over the same data.

One process, one thread, methods in turns, each between two plain passes and at its own best batch size: medians over
rounds, with quartiles. Memory is the peak of a process of its own beyond model and data, over that of a training step
with the same batch. Error is the relative L2 distance of the diagonal from float64 by a plain loop over examples and
classes, on a part of the data; that of drawn estimates (labels, signs, stratified) is their chance error.
"""

import argparse
import sys
import warnings
from pathlib import Path

import torch
from fisher_cost import language, memory
from fisher_cost.accuracy import Reference, verdict
from fisher_cost.cases import CASES, CONFIDENT, Case
from fisher_cost.clock import Clock, Timing, reason
from fisher_cost.floors import attention_without_fast_path, count, floor
from fisher_cost.methods import OURS, Method
from fisher_cost.peers import PEERS
from fisher_cost.table import Row, show, write


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="scripts/bench fisher", description=__doc__)
    parser.add_argument("--case", nargs="+", choices=[*CASES, "confident", "language"], default=[*CASES, "confident"])
    parser.add_argument("--peers", action="store_true", help="other libraries too: pip install '.[peers]'")
    parser.add_argument("--out", type=Path, help="folder for a CSV file per case")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a few examples, one round: only to see it run")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of other libraries, and of ours where a method is slow
    attention_without_fast_path()
    memory.limit()
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
    methods = OURS + (PEERS if args.peers else [])
    for name in args.case:
        if name == "language":
            rows = language.measure(args.quick)
        elif name == "confident":
            rows = confident(CONFIDENT.quick() if args.quick else CONFIDENT, methods)
        else:
            case = CASES[name].quick() if args.quick else CASES[name]
            rows = measure(case, methods, 1 if args.quick else args.rounds)
        print(f"\n{name}\n\n{show(rows)}", flush=True)
        if args.out:
            write(rows, args.out / f"{name}.csv")


def measure(case: Case, methods: list[Method], rounds: int) -> list[Row]:
    """Time, error and memory of each method."""
    say(f"{case.name}: training")
    model = case.model()
    inputs, targets = case.data(case.examples)
    timings = Clock(model, inputs, targets, case.sizes).measure(
        [method for method in methods if method.what not in case.left_out], rounds, say
    )
    say(f"{case.name}: the diagonal in float64")
    reference = Reference(model, inputs[: case.checked], targets[: case.checked])
    work = count(model, inputs)
    size = min(memory.BATCH, case.examples)
    step = memory.extra(case, memory.STEP, size)
    rows = [Row(case.name, "torch", "training step", size, extra_mib=step if isinstance(step, float) else None)]
    for method in methods:
        say(f"{method.name}: error and memory")
        if method.what in case.left_out:
            rows.append(Row(case.name, method.library, method.what, remark=case.left_out[method.what]))
            continue
        row = timed(case, method, timings[method.name])
        row.floor = floor(work, method.what, case.examples)
        if row.ratio is not None:
            row.error, row.remark = checked(reference, method, row.remark)
            extra = memory.extra(case, method, size)
            if isinstance(extra, float) and isinstance(step, float):
                row.extra_mib, row.memory = extra, extra / step
            elif isinstance(extra, str):
                row.remark = "; ".join(filter(None, [row.remark, f"memory: {extra}"]))
        rows.append(row)
    return rows


def timed(case: Case, method: Method, timing: Timing) -> Row:
    """The row of a method, as far as the clock knows it."""
    row = Row(case.name, method.library, method.what, remark=timing.reason)
    goal = case.goals.get(method.what)
    if goal and method.library == "cl_fisher":
        row.goal, row.elsewhere = goal.ours, goal.elsewhere
    if timing.ratios:
        row.batch = timing.size
        row.low, row.ratio, row.high = timing.quartiles()
        if timing.examples < case.examples:
            row.remark = f"timed on {timing.examples} of {case.examples} examples"
    return row


def checked(reference: Reference, method: Method, remark: str) -> tuple[float | None, str]:
    """The error, and the remark with what is to be said of it."""
    try:
        error = reference.error(method)
    except Exception as failure:
        return None, "; ".join(filter(None, [remark, reason(failure)]))
    return error, "; ".join(filter(None, [remark, verdict(method, error)]))


def confident(case: Case, methods: list[Method]) -> list[Row]:
    """Only the error: a network in float32 whose largest logit leads by 30."""
    inputs, targets = case.data(case.checked)
    reference = Reference(case.model(), inputs, targets)
    rows = []
    for method in methods:
        if method.what in ("kfac", "ekfac"):
            continue
        row = Row(case.name, method.library, method.what)
        row.error, row.remark = checked(reference, method, "")
        rows.append(row)
    return rows


def say(text: str) -> None:
    """Progress, out of the way of the table."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
