"""The report of a stack: what its trees read, and what each group of features is worth."""

from pathlib import Path
from typing import Any, Final

from zhichun.measure.report.page import Figure, Plot, bar, extent, figure_name, write_page

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
    return write_page(
        path,
        "stack.html",
        title=title,
        made=made,
        groups=[_row(name, of) for name, of in groups.items()],
        features=[_row(name, of) for name, of in shown.items()],
        figures=_figures(made) if "figures" in made else [],
        ablation=_ablation(made["ablation"]) if made.get("ablation") else None,
    )


def _row(name: str, shares: dict[str, float]) -> list[Any]:
    return [name, *(bar(f"{share:.1%}", share) for share in shares.values())]


def _figures(made: dict[str, Any]) -> list[list[str]]:
    stacked, alone = made["figures"]["stack"], made["figures"]["models"]
    return [
        [figure_name(key), f"{alone[key]:.4f}", f"{stacked[key]:.4f}", _gap(made["against_models"][key])]
        for key in stacked
    ]


def _gap(gap: dict[str, float]) -> str:
    return f"{gap['mean']:+.4f} ({gap['low']:+.4f} to {gap['high']:+.4f})"


def _ablation(found: dict[str, dict[str, dict[str, float]]]) -> dict[str, Any]:
    """Draw and list what is lost or won without each group."""
    keys = list(next(iter(found.values())))
    figures = []
    for key in keys:
        gaps = [of[key] for of in found.values()]
        ends = extent(value for gap in gaps for value in (gap["low"], gap["high"], 0.0))
        plot = Plot((0.5, len(gaps) + 0.5), ends, "group left out, by number", "difference")
        plot.segment((0.5, 0), (len(gaps) + 0.5, 0), "mark")
        for place, gap in enumerate(gaps, start=1):
            plot.segment((place, gap["low"]), (place, gap["high"]), "whisker")
        plot.dots(range(1, len(gaps) + 1), [gap["mean"] for gap in gaps], "a")
        text = f"{figure_name(key)} without each group minus with all, and 95 % intervals: below 0, the group helps."
        figures.append(Figure(plot, text))
    rows = [
        [f"{place} {group}", *(_gap(of[key]) for key in keys)]
        for place, (group, of) in enumerate(found.items(), start=1)
    ]
    return {"columns": ["group left out", *map(figure_name, keys)], "rows": rows, "figures": figures}
