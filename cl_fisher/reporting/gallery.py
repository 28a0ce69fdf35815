"""Which charts a report shows: each is saved as a PNG file and handed out as inline SVG."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from cl_fisher.reporting.aggregate import Group
from cl_fisher.reporting.glossary import METRICS
from cl_fisher.reporting.theme import styles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_PANELS = 12
MAX_PIXELS = 2500
"""Of a PNG file's longer side."""


class Gallery:
    """The charts of some groups. Matplotlib is loaded when the first one is drawn.

    Args:
        folder: Where the PNG files go; made if it does not exist.
        groups: What is shown.
    """

    def __init__(self, folder: Path, groups: Sequence[Group]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.groups = groups
        self.styles = styles(groups)
        self.shown = [pair for pair in zip(groups, self.styles, strict=True) if pair[0].counted]
        self._names: set[str] = set()

    def headline(self) -> list[dict[str, Any]]:
        """Average accuracy and forgetting by group, with intervals."""
        from cl_fisher.reporting.plot import interval_chart

        found = []
        for metric in METRICS:
            rows = [(group.label, group.estimate(metric.key), style) for group, style in self.shown]
            if metric.key in ("avg_accuracy", "forgetting") and any(estimate.n for _, estimate, _ in rows):
                words = "; ".join(f"{label} {metric.text(estimate)} %" for label, estimate, _ in rows)
                svg = self._svg(interval_chart(rows, metric.limits), f"{metric.name}: {words}", metric.key)
                found.append({"title": f"{metric.name} (%)", "svg": svg})
        return found

    def matrices(self) -> list[dict[str, Any]]:
        """The mean accuracy matrix of each group; on the page it is a table."""
        from cl_fisher.reporting.plot import accuracy_heatmap

        found = []
        for group in self.groups:
            rows = group.matrix()
            if rows:
                self._png(accuracy_heatmap(list(rows.values()), after=list(rows)), "accuracy_matrix", group.label)
                n_tasks = max(len(row) for row in rows.values())
                found.append({"group": group, "rows": rows, "n_tasks": n_tasks})
        return found

    def panels(self) -> list[dict[str, Any]]:
        """Accuracy of each task as training goes on; of long sequences, tasks at even distances."""
        from cl_fisher.reporting.plot import Course, task_course

        courses = [(group, group.course(), style) for group, style in self.shown]
        tasks = sorted({int(task) for _, course, _ in courses for task in course.columns})
        n_tasks = max(tasks, default=0)
        if len(tasks) > MAX_PANELS:
            tasks = [tasks[i * (len(tasks) - 1) // (MAX_PANELS - 1)] for i in range(MAX_PANELS)]
        found = []
        for task in tasks:
            known = [(group, course[task].dropna(), style) for group, course, style in courses if task in course]
            lines = [Course(list(a.index), list(a), style, group.is_joint) for group, a, style in known if len(a)]
            words = "; ".join(f"{group.label} {100 * a.iloc[-1]:.1f} %" for group, a, _ in known if len(a))
            if lines:
                text = f"Accuracy of task {task} after each task, at the end: {words}"
                found.append({"task": task, "svg": self._svg(task_course(lines, task, n_tasks), text, f"task_{task}")})
        return found

    def regions(self) -> list[dict[str, Any]]:
        """What one run of each group predicts over the plane, of several groups at the end only."""
        from cl_fisher.reporting.regions import region_chart, shown

        found = []
        for group, _ in self.shown:
            run = group.counted[0]
            for after, task in shown(run.regions, at_end=len(self.shown) > 1)[-MAX_PANELS:]:
                where = f"after task {after}" if task == after else f"after task {after}, asked for task {task}"
                figure = region_chart(run.regions, after, task)
                svg = self._svg(figure, f"Regions of {group.label} {where}", "regions", group.label, where)
                found.append({"group": group, "seed": run.seed, "where": where, "svg": svg})
        return found

    def curves(self) -> list[dict[str, Any]]:
        """Loss and penalty of every run that took a step, also of those that failed; one scale for all groups."""
        from cl_fisher.reporting.plot import curve_limits, training_curves

        found = []
        for column in ("loss", "penalty"):
            limits = curve_limits([run.steps for group in self.groups for run in group.runs], column)
            for group, style in zip(self.groups, self.styles, strict=True):
                frames = [run.steps for run in group.runs if (run.steps[column].fillna(0) != 0).any()]
                if frames and limits is not None:
                    steps = max(int(frame["global_step"].max()) for frame in frames)
                    text = f"{column.capitalize()} of {group.label} over {steps} optimizer steps"
                    svg = self._svg(training_curves(frames, column, style, limits), text, column, group.label)
                    found.append({"group": group, "column": column, "svg": svg})
        return found

    def _svg(self, figure: "Figure", description: str, *words: str) -> Markup:
        from cl_fisher.reporting.plot import to_svg

        self._png(figure, *words)
        return Markup(to_svg(figure, description))

    def _png(self, figure: "Figure", *words: str) -> None:
        stem = re.sub(r"[^\w.=-]+", "_", "_".join(words))[:100]
        if stem in self._names:
            stem += f"_{len(self._names)}"
        self._names.add(stem)
        # the matrix of fifty tasks would be 20 megapixels
        figure.savefig(self.folder / f"{stem}.png", dpi=min(200, MAX_PIXELS / max(figure.get_size_inches())))
