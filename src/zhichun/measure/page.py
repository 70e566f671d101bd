"""What the pages share: templates that escape every text, names as people write them, and plots as inline SVG.

Plots are in colors of the page's style sheet, so that they follow its dark mode. They are drawn 420 units wide with
letters of 13, which stay readable when a phone shrinks the drawing to its width.

Training curves are loss and validation figures, from ``metrics.jsonl``.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import cycle
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from zhichun.core import schema
from zhichun.core.arrays import Doubles
from zhichun.core.files import read_json_lines, write_text
from zhichun.metrics.figures import title_of

PACKAGE: Final = "zhichun.measure"

LANGUAGES: Final = {"us": "en", "es": "es", "jp": "ja"}
Numbers = Sequence[float] | Doubles
# An element's name, attributes and text.
Mark = tuple[str, dict[str, Any], str]

WIDTH: Final = 420
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 10, 44


class Figure(NamedTuple):
    """A drawing, what it shows in words, and the styles of its lines with their names."""

    plot: "Plot"
    text: str
    legend: tuple[tuple[str, str], ...] = ()


def figure_name(key: str, tasks: Mapping[str, str] = MappingProxyType({})) -> str:
    """Name a figure of ``metrics.json``, or of a pretext task by the names of `pretext_tasks`, for people."""
    if key.startswith("substitute."):
        return f"substitutes against the rest: {title_of(key.removeprefix('substitute.'))}"
    task, _, figure = key.partition(".")
    return f"{tasks[task]}: {figure}" if task in tasks else title_of(key)


def pretext_tasks(recipe: Mapping[str, Any]) -> dict[str, str]:
    """Name the pretext tasks that a recorded recipe learns, by the prefix of their figures."""
    of = recipe.get("objective", {})
    return {name: task["kind"] for name, task in of.items() if isinstance(task, Mapping) and name != "ema"}


def class_name(label: str) -> str:
    """Write a class in full, ``E Exact``, with a space that no line is broken at."""
    return f"{label}\u00a0{schema.LABEL_NAMES[label]}" if label in schema.LABEL_NAMES else label


def language(locale: str) -> str:
    """Return the language of a locale's texts as HTML's ``lang`` has it, empty where it is not known."""
    return LANGUAGES.get(locale, "")


def in_order(locales: Iterable[str]) -> list[str]:
    """Put locales into the order of `schema.LOCALES`, all others after these by name."""
    known = list(schema.LOCALES)
    return sorted(set(locales), key=lambda locale: (known.index(locale) if locale in known else len(known), locale))


def bar(text: str, share: float) -> dict[str, Any]:
    """Make a cell with a bar under its text; ``share`` is its length."""
    return {"text": text, "bar": share}


def asset(name: str, package: str = PACKAGE) -> str:
    """Read a style sheet or script that lies in a package."""
    return resources.files(package).joinpath(name).read_text("utf-8")


def write_page(path: Path, template: str, *, package: str = PACKAGE, **values: Any) -> Path:
    """Write a page; the same values give the same bytes.

    Parameters
    ----------
    path
        The file to make or replace.
    template
        A file in ``templates`` of the package.
    values
        What the template shows; texts are escaped.
    """
    write_text(path, environment(package).get_template(template).render(values) + "\n")
    return path


@cache
def environment(package: str) -> Environment:
    """Make what renders the templates of a package, and those that all pages share."""
    loader = ChoiceLoader([PackageLoader(each) for each in dict.fromkeys((package, PACKAGE))])
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":"), "allow_nan": False}
    made.globals["asset"] = lambda *named: Markup(asset(*named))
    made.filters |= {
        "class_name": class_name,
        "figure_name": figure_name,
        "count": lambda number: f"{number:,}",
        "in_order": in_order,
        "language": language,
        "share": lambda share: f"{share:.1%}",
    }
    return made


@dataclass(frozen=True)
class Scale:
    """One axis: values ``low`` to ``high`` lie at the places ``start`` to ``end`` of the drawing."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        """Place of a value; one beyond the axis is put at its end."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, most: int) -> list[float]:
        """Round values along the axis, at most ``most`` and one."""
        raw = (self.high - self.low) / most
        unit = 10 ** math.floor(math.log10(raw))
        step = next(factor * unit for factor in (1, 2, 2.5, 5, 10) if factor * unit >= raw * (1 - 1e-9))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(k * step, 12) for k in range(first, last + 1)]


class Plot:
    """A drawing with two axes, to which marks are added.

    Parameters
    ----------
    x, y
        Lowest and highest value of each axis; where both are the same, room is made around them.
    x_title, y_title
        What the axes show.
    height
        Height of the drawing in units.
    """

    def __init__(
        self, x: tuple[float, float], y: tuple[float, float], x_title: str, y_title: str, height: int = 260
    ) -> None:
        self.height = height
        self.x = Scale(*_roomy(x), LEFT, WIDTH - RIGHT)
        self.y = Scale(*_roomy(y), height - BOTTOM, TOP)
        self.marks: list[Mark] = [*self._axes(x_title, y_title)]

    @property
    def view(self) -> str:
        """The drawing's place, as SVG has it."""
        return f"0 0 {WIDTH} {self.height}"

    def line(self, xs: Numbers, ys: Numbers, style: str) -> None:
        """Join points; values that are not finite are left out."""
        points = " ".join(f"{self.x.place(x):.1f},{self.y.place(y):.1f}" for x, y in _finite(xs, ys))
        self.marks.append(("polyline", {"points": points, "class": f"line {style}"}, ""))

    def dots(self, xs: Numbers, ys: Numbers, style: str, radii: Numbers | None = None) -> None:
        """Mark points, with a radius each if given; values that are not finite are left out."""
        for x, y, radius in _finite(xs, ys, [3.5] * len(xs) if radii is None else radii):
            self.marks.append(_mark("circle", f"dot {style}", cx=self.x.place(x), cy=self.y.place(y), r=radius))

    def bars(self, edges: Numbers, heights: Numbers, style: str) -> None:
        """Draw a histogram; bar i reaches from edge i to the next."""
        for left, right, height in zip(edges[:-1], edges[1:], heights, strict=True):
            low, high = self.x.place(left) + 0.5, self.x.place(right) - 0.5
            top, foot = self.y.place(height), self.y.place(0)
            self.marks.append(_mark("rect", style, x=low, y=top, width=high - low, height=foot - top))

    def segment(self, start: tuple[float, float], end: tuple[float, float], style: str) -> None:
        """Draw a straight line."""
        (x1, y1), (x2, y2) = self._place(start), self._place(end)
        self.marks.append(_mark("line", style, x1=x1, y1=y1, x2=x2, y2=y2))

    def _place(self, point: tuple[float, float]) -> tuple[float, float]:
        return self.x.place(point[0]), self.y.place(point[1])

    def _axes(self, x_title: str, y_title: str) -> Iterable[Mark]:
        foot, middle = self.height - BOTTOM, (LEFT + WIDTH - RIGHT) / 2
        for value in self.y.ticks(max(2, self.height // 50)):
            place = self.y.place(value)
            yield _mark("line", "grid", x1=LEFT, y1=place, x2=WIDTH - RIGHT, y2=place)
            yield _text(LEFT - 6, place + 4, _label(value), "end")
        for value in self.x.ticks(5):
            place = self.x.place(value)
            yield _mark("line", "grid", x1=place, y1=foot, x2=place, y2=foot + 4)
            yield _text(place, foot + 17, _label(value), "middle")
        yield _text(middle, self.height - 6, x_title, "middle")
        centre = (TOP + foot) / 2
        yield _text(12, centre, y_title, "middle", transform=f"rotate(-90 12 {centre:g})")


def extent(values: Iterable[float]) -> tuple[float, float]:
    """Lowest and highest of the finite values; 0 to 1 where there is none."""
    finite = [value for value in values if math.isfinite(value)]
    return (min(finite), max(finite)) if finite else (0.0, 1.0)


def _roomy(ends: tuple[float, float]) -> tuple[float, float]:
    low, high = ends
    if high > low:
        return low, high
    room = abs(low) * 0.1 or 1.0
    return low - room, high + room


def _finite(*columns: Numbers) -> list[tuple[float, ...]]:
    return [row for row in zip(*columns, strict=True) if all(map(math.isfinite, row))]


def _mark(name: str, style: str, **places: float) -> Mark:
    return name, {"class": style, **{key: f"{place:.1f}" for key, place in places.items()}}, ""


def _text(x: float, y: float, text: str, anchor: str, **attributes: str) -> Mark:
    return "text", {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor, **attributes}, text


def _label(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


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

    def kept(self, train: Mapping[str, Any]) -> dict[str, Any] | None:
        """Find the evaluation whose weights were kept, as the loop chooses by these settings."""
        if train.get("keep") == "last":
            return next(reversed(self.validations), None)
        metric = train.get("metric", "micro_f1")
        found = [r for r in self.validations if np.isfinite(r["validation"].get(metric, np.nan))]
        sign = -1 if metric.endswith("loss") else 1
        ranks = [(sign * r["validation"][metric], -r["validation"].get("loss", np.inf)) for r in found]
        return found[ranks.index(max(ranks))] if found else None


def training_curves(history: History, recipe: dict[str, Any]) -> dict[str, Any] | None:
    """Draw the loss, the validation figures and the norm of the gradient; none where no step was done."""
    if not history.steps:
        return None
    settings, tasks = recipe.get("train", {}), pretext_tasks(recipe)
    kept = history.kept(settings)
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
