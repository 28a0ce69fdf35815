"""One of several processes that estimate a Fisher together; run by test_processes.py."""

import os
import sys

import torch
import torch.distributed as dist
from torch import nn

from cl_fisher.fisher import estimate_fisher


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.LayerNorm(8), nn.Linear(8, 5))


def examples(n=31):
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(n, 6, generator=generator)
    return inputs, torch.randint(0, 5, (n,), generator=generator), torch.arange(n)


def share(rank, count, size):
    """Batches of every count-th example, with their numbers."""
    inputs, targets, index = (t[rank::count] for t in examples())
    return list(zip(inputs.split(size), targets.split(size), index.split(size), strict=True))


CASES = (
    ("exact", "diagonal", "uniform", True),
    ("signs", "diagonal", "uniform", True),
    ("monte_carlo", "diagonal", "uniform", False),
    ("exact", "diagonal", "importance", True),
    ("monte_carlo", "mixed", "uniform", True),
    ("signs", "low_rank", "uniform", True),
    ("exact", "dense", "uniform", True),
)
"""Estimator, structure, sampling, and whether the batches tell which example is which."""


def estimate(batches, case, distributed):
    estimator, structure, sampling, indexed = case
    return estimate_fisher(
        network(),
        batches if indexed else [batch[:2] for batch in batches],
        estimator=estimator,
        structure=structure,
        sampling=sampling,
        samples=None if sampling == "uniform" else 20,
        distributed=distributed,
    )


def main():
    rank, count, rendezvous, out = sys.argv[1:]
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=int(rank), world_size=int(count))
    for number, case in enumerate(CASES):
        estimate(share(int(rank), int(count), size=4 + int(rank)), case, True).save(
            f"{out}/{number}-{rank}.safetensors"
        )
    dist.barrier()
    dist.destroy_process_group()
    os._exit(0)  # gloo's threads now and then abort an interpreter that winds down; all files are closed


if __name__ == "__main__":
    main()
