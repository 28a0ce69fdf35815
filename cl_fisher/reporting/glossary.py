"""The metrics that are reported: their names, their unit, and what they mean to somebody new to the field."""

from collections.abc import Sequence
from dataclasses import dataclass

from cl_fisher.reporting.aggregate import Estimate, Group

UNDEFINED = "\N{EN DASH}"


@dataclass(frozen=True)
class Metric:
    """One number of metrics.json."""

    key: str
    name: str
    explanation: str
    unit: str = "%"
    limits: tuple[float, float] = (-100, 100)
    """The least and the largest value that is possible, in percent."""
    sign: int = 1
    """1: higher is better; -1: lower is; 0: neither."""

    def text(self, estimate: Estimate) -> str:
        """Mean and half-width of the interval, such as "94.21 ± 0.35"; a dash where there is no value."""
        if estimate.mean is None:
            return UNDEFINED
        mean, half = self.number(estimate.mean), estimate.half_width
        return mean if half is None else f"{mean} ± {self.number(half)}"

    def number(self, value: float | None) -> str:
        """One value without its unit; fractions become percent."""
        if value is None:
            return UNDEFINED
        text = f"{100 * value:.2f}" if self.unit == "%" else f"{value:.1f}"
        return text.removeprefix("-") if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


METRICS = (
    Metric(
        "avg_accuracy",
        "Average accuracy",
        "Accuracy after the last task, averaged over all tasks. Higher is better.",
        limits=(0, 100),
    ),
    Metric(
        "learning_accuracy",
        "Learning accuracy",
        "Accuracy on each task right after it was learned, averaged over tasks: how well new tasks are still learned. "
        "Higher is better.",
        limits=(0, 100),
    ),
    Metric(
        "forgetting",
        "Forgetting",
        "How far each earlier task has fallen at the end from the best accuracy that it had since it was learned "
        "(after Chaudhry et al. 2018). Lower is better; 0 means that nothing was lost.",
        sign=-1,
    ),
    Metric(
        "bwt",
        "BWT",
        "Backward transfer: the change in accuracy on earlier tasks from right after learning them to the end "
        "(Lopez-Paz and Ranzato 2017). Negative means forgetting, positive means that later tasks helped.",
    ),
    Metric(
        "fwt",
        "FWT",
        "Forward transfer: accuracy on a task just before it is learned, less that of the untrained network "
        "(Lopez-Paz and Ranzato 2017). Positive means that earlier tasks helped.",
    ),
)
FURTHER = (
    Metric(
        "avg_incremental_accuracy",
        "Average incremental accuracy",
        "Accuracy after each task, averaged over the tasks so far, and then over the sequence (after Rebuffi et al. "
        "2017). Higher is better.",
        limits=(0, 100),
    ),
    Metric(
        "min_acc",
        "Min-ACC",
        "The worst accuracy that an earlier task ever had after it was learned, also in the middle of training, "
        "averaged over tasks (De Lange et al. 2023). Higher is better.",
        limits=(0, 100),
    ),
    Metric(
        "wc_acc",
        "WC-ACC",
        "Worst-case accuracy: of the last task at the end, and of the others at their worst (De Lange et al. 2023). "
        "Higher is better.",
        limits=(0, 100),
    ),
    Metric(
        "wf10",
        "WF10",
        "Windowed forgetting: the steepest fall of a task's accuracy within ten evaluations in a row, averaged over "
        "tasks (De Lange et al. 2023). Lower is better.",
        sign=-1,
    ),
    Metric(
        "wp10",
        "WP10",
        "Windowed plasticity: the steepest rise within ten evaluations in a row (De Lange et al. 2023). "
        "Higher is better.",
    ),
    Metric(
        "stability_gap",
        "Stability gap",
        "How far earlier tasks fall at worst while a new one is learned, from right before it, averaged over tasks and "
        "boundaries. Lower is better.",
        sign=-1,
    ),
    Metric(
        "stability_recovery",
        "Recovery",
        "How much of that fall is won back by the end of the new task. Of the stability gap it is what passes.",
        sign=0,
    ),
    Metric(
        "intransigence",
        "Intransigence",
        "How much worse each task was learned than by a network that had the data of all tasks so far "
        "(strategy=cumulative; Chaudhry et al. 2018). Lower is better.",
        sign=-1,
    ),
    Metric(
        "intransigence_last",
        "Last intransigence",
        "Intransigence of the last task alone, for which joint training is reference enough. Lower is better.",
        sign=-1,
    ),
    Metric(
        "fwt_reference",
        "Learned FWT",
        "How much better each task was learned than by a network trained on it alone (strategy=independent). "
        "Positive means that earlier tasks helped.",
    ),
)
"""In a table of their own, where they are known: most need `eval_every`, or another run to compare with."""
SECONDS = Metric("seconds.total", "Seconds", "Wall-clock time of the whole run.", unit="s", sign=-1)


def known(groups: Sequence[Group]) -> tuple[Metric, ...]:
    """Those of `FURTHER` that a group has a value of."""
    return tuple(metric for metric in FURTHER if any(group.estimate(metric.key).n for group in groups))
