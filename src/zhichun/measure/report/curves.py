"""Training curves: loss and validation figures, from ``metrics.jsonl``."""

from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, Final

import numpy as np

from zhichun.core.arrays import Doubles
from zhichun.core.files import read_json_lines
from zhichun.measure.report.page import Figure, Plot, extent, figure_name, pretext_tasks

MOST_POINTS: Final = 300
# Names of the series' colors and dashes in the style sheet.
STYLES: Final = ("a", "b", "c", "d", "e")
STEPS: Final = (("raw", "each step"), ("a", "smoothed"))


@dataclass(frozen=True)
class History:
    """Records of the loop.

    Parameters
    ----------
    steps
        Records of steps: ``step``, ``loss``, ``gradient_norm``.
    validations
        Records of evaluations: ``step``, ``validation``.
    """

    steps: list[dict[str, Any]]
    validations: list[dict[str, Any]]

    @classmethod
    def read(cls, path: Path) -> "History":
        """Read ``metrics.jsonl``; a missing file is empty."""
        records = list(read_json_lines(path))
        return cls([r for r in records if "loss" in r], [r for r in records if "validation" in r])

    def series(self, name: str) -> tuple[Doubles, Doubles]:
        """Give steps and values of what each step wrote down; NaN where it wrote none."""
        values = [np.nan if record.get(name) is None else record[name] for record in self.steps]
        return _floats([record["step"] for record in self.steps]), _floats(values)

    def validated(self, name: str) -> tuple[Doubles, Doubles]:
        """Give steps and values of a validation figure."""
        found = [record for record in self.validations if name in record["validation"]]
        return _floats([r["step"] for r in found]), _floats([r["validation"][name] for r in found])

    @property
    def figures(self) -> list[str]:
        """Names of the validation figures, in the order in which they were written."""
        return list(dict.fromkeys(name for record in self.validations for name in record["validation"]))

    def kept(self, metric: str) -> dict[str, Any] | None:
        """Find the evaluation whose weights were kept: the first of the best ones."""
        found = [r for r in self.validations if np.isfinite(r["validation"].get(metric, np.nan))]
        sign = -1 if metric.endswith("loss") else 1
        return max(found, key=lambda record: sign * record["validation"][metric], default=None)


def training_curves(history: History, recipe: dict[str, Any]) -> dict[str, Any] | None:
    """Draw the loss, the validation figures and the norm of the gradient; none where no step was done."""
    if not history.steps:
        return None
    settings, tasks = recipe.get("train", {}), pretext_tasks(recipe)
    kept = history.kept(settings.get("metric", "micro_f1"))
    names = {key: figure_name(key, tasks) for key in history.figures}
    losses = {key: name for key, name in names.items() if key.endswith(".loss")}
    others = {key: name for key, name in names.items() if key != "loss" and key not in losses}
    figures = [
        _loss(history),
        _validation(history, kept, others, f"Figures on the held-out {'products' if losses else 'queries'}"),
        _validation(history, kept, losses, "Loss of each task on the held-out products"),
    ]
    return {
        "figures": [figure for figure in figures if figure is not None],
        "validations": history.validations,
        "kept": kept,
        "names": names,
        "gradient_norm": _gradient_norm(history, settings.get("clip")),
    }


def smoothed(values: Doubles) -> Doubles:
    """Exponential moving average over about a twentieth of the steps, without the pull of its start (Adam's way)."""
    keep = 1 - 1 / max(2.0, len(values) / 20)
    made, total, weight = np.empty(len(values)), 0.0, 0.0
    for place, value in enumerate(values):
        if np.isfinite(value):
            total, weight = keep * total + (1 - keep) * value, keep * weight + 1 - keep
        made[place] = total / weight if weight else np.nan
    return made


def thinned(steps: Doubles, values: Doubles) -> tuple[Doubles, Doubles]:
    """Keep the lowest and the highest value of every stretch, so that a long run draws as few points as a short one."""
    stretch = -(-len(values) // MOST_POINTS)
    if stretch == 1:
        return steps, values
    rows = []
    for start in range(0, len(values), stretch):
        part = np.nan_to_num(values[start : start + stretch], nan=np.inf)
        lowest, highest = int(part.argmin()), int(np.where(np.isfinite(part), part, -np.inf).argmax())
        rows += sorted({start + lowest, start + highest})
    return steps[rows], values[rows]


def _loss(history: History) -> Figure | None:
    steps, raw = history.series("loss")
    finite = raw[np.isfinite(raw)]
    if not len(finite):
        return None
    smooth = smoothed(raw)
    at, of_validation = history.validated("loss")
    _, high = extent([*smooth, *of_validation, np.percentile(finite, 99)])
    low, _ = extent([*raw, *of_validation])
    plot = _plot_of_steps(steps, raw, smooth, (low, high), "loss")
    plot.line(at, of_validation, "b")
    plot.dots(at, of_validation, "b")
    tenth = max(1, len(finite) // 10)
    first, last = finite[:tenth].mean(), finite[-tenth:].mean()
    text = f"The loss over {len(raw):,} steps: {first:.3f} in the first tenth on average, {last:.3f} in the last."
    return Figure(plot, text, (*STEPS, ("b", "validation")) if len(at) else STEPS)


def _plot_of_steps(steps: Doubles, raw: Doubles, smooth: Doubles, ends: tuple[float, float], what: str) -> Plot:
    plot = Plot((1, steps[-1]), ends, "step", what)
    plot.line(*thinned(steps, raw), "raw")
    plot.line(*thinned(steps, smooth), "a")
    return plot


def _validation(history: History, kept: dict[str, Any] | None, names: dict[str, str], what: str) -> Figure | None:
    if not names or kept is None:
        return None
    series = [history.validated(key) for key in names]
    last = max(record["step"] for record in (*history.steps[-1:], *history.validations))
    low, high = extent(value for _, values in series for value in values)
    room = (high - low) / 20
    plot = Plot((0, last), (low - room, high + room), "step", "figure")
    plot.segment((kept["step"], plot.y.low), (kept["step"], plot.y.high), "mark")
    for style, (at, values) in zip(cycle(STYLES), series, strict=False):
        plot.line(at, values, style)
        plot.dots(at, values, style)
    figures = ", ".join(f"{names[key]} {value:.3f}" for key, value in kept["validation"].items() if key in names)
    text = f"{what}. The weights of step {kept['step']:,} were kept: {figures}."
    return Figure(plot, text, (*zip(cycle(STYLES), names.values()), ("mark", "kept weights")))


def _gradient_norm(history: History, clip: float | None) -> Figure | None:
    steps, norms = history.series("gradient_norm")
    finite = norms[np.isfinite(norms)]
    if not len(finite):
        return None
    high = max(float(np.percentile(finite, 99)), clip or 0.0)
    plot = _plot_of_steps(steps, norms, smoothed(norms), (0, high), "norm")
    if clip is None:
        return Figure(plot, "The norm of the gradient before it is clipped.", STEPS)
    plot.segment((1, clip), (steps[-1], clip), "mark")
    text = f"The norm of the gradient before it is clipped to {clip:g}: {(finite > clip).mean():.0%} of the steps."
    return Figure(plot, text, (*STEPS, ("mark", "clipped to")))


def _floats(values: list[Any]) -> Doubles:
    return np.asarray(values, np.float64)
