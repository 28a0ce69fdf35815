"""Accuracy within tasks: means over seeds, boundaries, and that thinning keeps the dips."""

import numpy as np
import pandas as pd
import pytest

from cl_fisher.reporting.aggregate import group_runs
from cl_fisher.reporting.during import seen, thin
from cl_fisher.reporting.read import read_source
from tests.reporting.conftest import write_continual


def measured(folder):
    for i, cell in enumerate(sorted(folder.glob("0*"))):
        write_continual(cell, seed=i)
    return group_runs(read_source(folder).runs)


def test_mean_and_range_over_seeds(multirun_folder):
    (group,) = measured(multirun_folder([("ewc", 0), ("ewc", 1)]))
    course = seen(group)
    assert course.boundaries == [4]
    line = course.lines[1]
    assert line["global_step"].tolist() == [0, 2, 4, 4, 6, 8]
    assert line["mean"].tolist() == pytest.approx([0, 1 / 3, 2 / 3, 0.8, 0.35, 0.8])
    assert line["min"].tolist()[4] == pytest.approx(0.3)
    assert line["max"].tolist()[4] == pytest.approx(0.4)
    assert course.lines[2]["global_step"].tolist() == [4, 6, 8]


def test_tasks_of_different_lengths_are_averaged_evaluation_by_evaluation(multirun_folder):
    """With a class order of each seed's own, a step is the fifth of one task here and the first of another there."""
    folder = multirun_folder([("ewc", 0), ("ewc", 1)])
    for cell, steps in zip(sorted(folder.glob("0*")), (4, 8), strict=True):
        write_continual(cell, steps=steps)
    (group,) = group_runs(read_source(folder).runs)
    course = seen(group)
    assert course.boundaries == [6]
    line = course.lines[1]
    # evaluations at 0, 2, 4 of either task in the first seed, at 0, 2, 4, 6, 8 in the second
    assert line["global_step"].tolist() == [0, 2, 4, 6, 8, 10]
    assert line["mean"].tolist() == pytest.approx([0, (2 / 6 + 2 / 10) / 2, (4 / 6 + 4 / 10) / 2, 0.8, 0.3, 0.8])
    assert line["min"].tolist()[3:] == line["max"].tolist()[3:] == [0.8, 0.3, 0.8]


def test_a_seed_that_knows_fewer_tasks_does_not_shorten_the_others(multirun_folder):
    folder = multirun_folder([("ewc", 0), ("ewc", 1)])
    for cell, n_tasks in zip(sorted(folder.glob("0*")), (1, 2), strict=True):
        write_continual(cell, n_tasks=n_tasks)
    (group,) = group_runs(read_source(folder).runs)
    assert seen(group).lines[2]["global_step"].tolist() == [4, 6, 8]


def test_runs_without_it(multirun_folder):
    (group,) = group_runs(read_source(multirun_folder([("ewc", 0)])).runs)
    assert seen(group) is None


def test_thinning_keeps_the_lowest_and_the_highest():
    values = np.linspace(0.5, 0.9, 5000)
    values[[777, 4321]] = 0.01, 0.99
    line = pd.DataFrame({"global_step": np.arange(5000), "mean": values, "min": values, "max": values})
    few = thin(line)
    assert len(few) <= 242
    assert {0, 777, 4321, 4999} <= set(few["global_step"])
    assert few["global_step"].is_monotonic_increasing
    assert thin(line[:200]) is not few
    assert len(thin(line[:200])) == 200
