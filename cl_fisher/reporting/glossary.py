"""The metrics that are reported: their names, their unit, and what they mean to somebody new to the field."""

from dataclasses import dataclass

from cl_fisher.reporting.aggregate import Estimate

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
        "How far each earlier task has fallen at the end from the best accuracy that it ever had "
        "(Chaudhry et al. 2018). Lower is better; 0 means that nothing was lost.",
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
SECONDS = Metric("seconds.total", "Seconds", "Wall-clock time of the whole run.", unit="s")
