"""The report of a stack: what its trees read, and what each group of features is worth."""

from pathlib import Path
from typing import Any, Final

from zhichun.measure.report.page import Figure, Plot, extent, figure_name, write_page

MOST_FEATURES: Final = 20


def write_stack_page(path: Path, title: str, made: dict[str, Any]) -> Path:
    """Write ``report.html`` of a stack, from what `zhichun.fit.stack.stack` gives."""
    importance = made["importance"]
    features = sorted(importance["classes"], key=lambda name: -sum(of[name] for of in importance.values()))
    groups = {
        group: {model: sum(of[name] for name in names) for model, of in importance.items()}
        for group, names in made["features"].items()
    }
    shown = {name: {model: of[name] for model, of in importance.items()} for name in features[:MOST_FEATURES]}
    plots = _plots(made.get("ablation", {}))
    return write_page(path, "stack.html", title=title, made=made, groups=groups, features=shown, plots=plots)


def _plots(found: dict[str, dict[str, dict[str, float]]]) -> list[Figure]:
    """Draw what leaving out each group of features does to each figure."""
    figures = []
    for key in next(iter(found.values()), {}):
        gaps = [of[key] for of in found.values()]
        ends = extent(value for gap in gaps for value in (gap["low"], gap["high"], 0.0))
        plot = Plot((0.5, len(gaps) + 0.5), ends, "group left out, by number", "difference")
        plot.segment((0.5, 0), (len(gaps) + 0.5, 0), "mark")
        for place, gap in enumerate(gaps, start=1):
            plot.segment((place, gap["low"]), (place, gap["high"]), "whisker")
        plot.dots(range(1, len(gaps) + 1), [gap["mean"] for gap in gaps], "a")
        text = f"{figure_name(key)} without each group minus with all, and 95 % intervals: below 0, the group helps."
        figures.append(Figure(plot, text))
    return figures
