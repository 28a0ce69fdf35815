"""The schema of the keys that belong to no component: types and bounds, read like any component's signature."""

from dataclasses import dataclass
from typing import Any, Literal

from cl_fisher.bounds import Count, Fraction, Index, NonNegative, UnitInterval


@dataclass(frozen=True)
class Fisher:
    """`fisher.*` beside the groups in it."""

    estimator: Any
    structure: Any
    likelihood: Any
    samples: Count | None
    until: UnitInterval | None
    check: bool
    sampling: Literal["uniform", "importance"]


@dataclass(frozen=True)
class Loader:
    """`loader.*`."""

    in_memory: Literal["auto", True, False]
    memory_gb: NonNegative
    workers: Index


@dataclass(frozen=True)
class Root:
    """The keys of conf/config.yaml; a group's content (Any) is checked against its own target."""

    benchmark: Any
    scenario: Any
    dataset: Any
    strategy: Any
    model: Any
    optimizer: Any
    trainer: Any
    logger: Any
    fisher: Any
    loader: Any
    seed: Index
    n_tasks: Count
    epochs: Count | None
    iterations: Count | None
    batch_size: Count
    validation_fraction: Fraction
    optimizer_state: Literal["reset", "keep"]
    batchnorm: Literal["as_is", "frozen", "group_norm"]
    consolidate_every: Count | None
    eval_every: Count | None
    eval_samples: Count | None
    log_every: Count
    checkpoint: Literal["last", "all", "none"]
    verbosity: Literal[0, 1, 2]
    label_noise: UnitInterval
    reference_dir: str | float | None
    data_dir: str | float  # a folder may be called 3, or nan
    root: str | float | None
    path: str | float | None
    output_dir: str | float | None


SCHEMA = {
    "": "cl_fisher.config.root.Root",
    "fisher": "cl_fisher.config.root.Fisher",
    "loader": "cl_fisher.config.root.Loader",
    "scenario": "cl_fisher.benchmark.task.Scenario",
}
"""Nodes without a `_target_`: what their keys are checked against. In the first three every field must be present."""
