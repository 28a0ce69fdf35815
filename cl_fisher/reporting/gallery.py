"""Which charts a report shows: each is saved as a PNG file with its caption and handed out as inline SVG without."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from cl_fisher.reporting.aggregate import Group
from cl_fisher.reporting.axis import axis
from cl_fisher.reporting.caption import Caption, save_png
from cl_fisher.reporting.during import seen
from cl_fisher.reporting.glossary import FURTHER, METRICS, Metric
from cl_fisher.reporting.theme import Style, series, styles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cl_fisher.reporting.curve import Line

GAP = next(metric for metric in FURTHER if metric.key == "stability_gap")
MAX_PANELS = 12


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
        self.files: set[Path] = set()
        """What was written so far."""

    def headline(self) -> list[dict[str, Any]]:
        """Average accuracy and forgetting by group, with intervals."""
        from cl_fisher.reporting.plot import interval_chart

        found = []
        for metric in METRICS:
            rows = [(group.label, group.estimate(metric.key), style) for group, style in self.shown]
            if metric.key in ("avg_accuracy", "forgetting") and any(estimate.n for _, estimate, _ in rows):
                words = "; ".join(f"{label} {metric.text(estimate)} %" for label, estimate, _ in rows)
                title = f"{metric.name} (%)"
                caption = Caption(f"{title} with its 95 % interval")
                svg = self._svg(interval_chart(rows, metric.limits), f"{metric.name}: {words}", caption, metric.key)
                found.append({"title": title, "svg": svg})
        return found

    def matrices(self) -> list[dict[str, Any]]:
        """The mean accuracy matrix of each group; on the page it is a table."""
        from cl_fisher.reporting.plot import accuracy_heatmap

        found = []
        for group in self.groups:
            rows = group.matrix()
            if rows:
                figure = accuracy_heatmap(list(rows.values()), after=list(rows))
                self._png(figure, Caption(f"Accuracy matrix, {group.label}"), "accuracy_matrix", group.label)
                n_tasks = max(len(row) for row in rows.values())
                found.append({"group": group, "rows": rows, "n_tasks": n_tasks})
        return found

    def panels(self) -> list[dict[str, Any]]:
        """Accuracy of each task as training goes on; of long sequences, tasks at even distances."""
        from cl_fisher.reporting.plot import Course, task_course

        courses = [(group, group.course(), style) for group, style in self.shown]
        tasks = sorted({int(task) for _, course, _ in courses for task in course.columns})
        n_tasks = max(tasks, default=0)
        found = []
        for task in few(tasks):
            known = [(group, course[task].dropna(), style) for group, course, style in courses if task in course]
            lines = [Course(list(a.index), list(a), style, group.is_joint) for group, a, style in known if len(a)]
            words = "; ".join(f"{group.label} {100 * a.iloc[-1]:.1f} %" for group, a, _ in known if len(a))
            if lines:
                text = f"Accuracy of task {task} after each task, at the end: {words}"
                legend = [(group.label, style) for group, a, style in known if len(a)]
                caption = Caption(f"Accuracy of task {task}", "after task", "accuracy (%)", legend)
                svg = self._svg(task_course(lines, task, n_tasks), text, caption, f"task_{task}")
                found.append({"task": task, "svg": svg})
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
                caption = Caption(f"{group.label}, {where}")
                svg = self._svg(figure, f"Regions of {group.label} {where}", caption, "regions", group.label, where)
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
                    caption = Caption(f"{column.capitalize()}, {group.label}", "optimizer steps", column)
                    figure = training_curves(frames, column, style, limits)
                    svg = self._svg(figure, text, caption, column, group.label)
                    found.append({"group": group, "column": column, "svg": svg})
        return found

    def sweep(self) -> dict[str, Any] | None:
        """Average accuracy against the number that takes most values; None if there is none."""
        from cl_fisher.reporting.curve import sweep_chart

        found = axis([group for group, _ in self.shown])
        if found is None:
            return None
        metric = METRICS[0]
        as_elsewhere = styles([points[0][1] for points in found.lines.values()])
        pairs = list(zip(found.lines.items(), as_elsewhere, strict=True))
        lines = [line_of(points, metric, style) for (_, points), style in pairs]
        words = "; ".join(f"{name or found.key} {best_of(points, metric)}" for (name, points), _ in pairs)
        figure = sweep_chart(lines, found.values, found.is_log, metric.limits)
        title, legend = f"{metric.name} against {found.key}", [(name, style) for (name, _), style in pairs if name]
        caption = Caption(title, found.key, f"{metric.name.lower()} (%)", legend)
        svg = self._svg(figure, f"{title}, at its best: {words}", caption, "sweep", found.key)
        return {"key": found.key, "svg": svg, "legend": legend}

    def during(self) -> dict[str, Any] | None:
        """Accuracy of each task at every evaluation within tasks, a chart per group; None without such evaluations."""
        from cl_fisher.reporting.curve import during_chart

        measured = [(group, course) for group in self.groups if (course := seen(group)) is not None]
        if not measured:
            return None
        tasks = few(sorted({task for _, course in measured for task in course.lines}))
        by_task = dict(zip(tasks, series(len(tasks)), strict=True))
        drawn = [course.lines[task] for _, course in measured for task in tasks if task in course.lines]
        low, high = 100 * min(line["min"].min() for line in drawn), 100 * max(line["max"].max() for line in drawn)
        charts = []
        for group, course in measured:
            figure = during_chart(course, by_task, (max(low - 3, -1), min(high + 3, 101)))
            gap = GAP.text(group.estimate(GAP.key))
            text = f"Accuracy of each task within tasks, {group.label}: {GAP.name} {gap}"
            legend = [(f"task {task}", style) for task, style in by_task.items() if task in course.lines]
            caption = Caption(f"Accuracy within tasks, {group.label}", "optimizer steps", "accuracy (%)", legend)
            charts.append({"group": group, "svg": self._svg(figure, text, caption, "during", group.label)})
        return {"charts": charts, "tasks": list(by_task.items())}

    def _svg(self, figure: "Figure", description: str, caption: Caption, *words: str) -> Markup:
        from cl_fisher.reporting.plot import to_svg

        svg = to_svg(figure, description)
        self._png(figure, caption, *words)
        return Markup(svg)

    def _png(self, figure: "Figure", caption: Caption, *words: str) -> None:
        stem = re.sub(r"[^\w.=-]+", "_", "_".join(words))[:100]
        if (path := self.folder / f"{stem}.png") in self.files:
            path = self.folder / f"{stem}_{len(self.files)}.png"
        self.files.add(path)
        save_png(figure, caption, path)


def few(tasks: list[int]) -> list[int]:
    """Of many tasks some at even distances, with the first and the last."""
    if len(tasks) <= MAX_PANELS:
        return tasks
    return [tasks[i * (len(tasks) - 1) // (MAX_PANELS - 1)] for i in range(MAX_PANELS)]


def line_of(points: Sequence[tuple[float, Group]], metric: Metric, style: Style) -> "Line":
    """Mean and 95 % interval of each group, in percent and within what is possible; no band for a single seed."""
    from cl_fisher.reporting.curve import Line

    known = [(x, estimate) for x, group in points if (estimate := group.estimate(metric.key)).mean is not None]
    x, means, halves = [x for x, _ in known], [e.mean or 0.0 for _, e in known], [e.half_width or 0.0 for _, e in known]
    low, high = metric.limits
    least = [max(low, 100 * (mean - half)) for mean, half in zip(means, halves, strict=True)]
    most = [min(high, 100 * (mean + half)) for mean, half in zip(means, halves, strict=True)]
    return Line(x, [100 * mean for mean in means], least, most, style)


def best_of(points: Sequence[tuple[float, Group]], metric: Metric) -> str:
    """The best value of a line and where it lies, in words."""
    known = [(mean, x) for x, group in points if (mean := group.estimate(metric.key).mean) is not None]
    return f"{metric.number(max(known)[0])} % at {max(known)[1]:g}" if known else "undefined"
