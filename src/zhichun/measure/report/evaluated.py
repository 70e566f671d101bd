"""How good the run is, in tables: figures beside the baselines, confusion, and classes."""

from typing import Any

import numpy as np

from zhichun.measure.report.html import Html, bar_cell, table, tag
from zhichun.measure.report.names import class_name, figure_name
from zhichun.metrics import class_scores


def baselines(measured: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Give the baselines by name: always the first class, and a random order."""
    found = {f"always {name[7:].capitalize()}": value for name, value in measured.items() if name.startswith("always_")}
    return {**found, "random order": measured["random_order"]} if "random_order" in measured else found


def figures_table(measured: dict[str, Any]) -> Html:
    """Lay out all figures, overall and by locale, beside the baselines."""
    of_locales = measured.get("by_locale", {})
    columns = {"all": measured, **of_locales}
    flat = {name: _figures(column) for name, column in columns.items()} | baselines(measured)
    rows = [
        [figure_name(key), *(f"{column[key]:.4f}" if key in column else "–" for column in flat.values())]
        for key in flat["all"]
    ]
    counts = [[what, *(f"{column.get(what, 0):,}" for column in columns.values())] for what in ("pairs", "queries")]
    counts = [row + ["–"] * (len(flat) - len(columns)) for row in counts]
    return table("Figures, overall and by locale, beside simple baselines", ["figure", *flat], counts + rows)


def confusion_table(counts: list[list[int]], classes: tuple[str, ...]) -> Html:
    """Draw the confusion matrix as a heat map that is a table: rows are the judgements."""
    rows = []
    for name, row in zip(classes, counts, strict=True):
        shares = [count / max(1, sum(row)) for count in row]
        cells = [
            tag("td", f"{count:,}", tag("small", f"{share:.0%}"), style=f"--share:{share:.2f}", class_="heat")
            for count, share in zip(row, shares, strict=True)
        ]
        rows.append([class_name(name), *cells])
    caption = "Judged (rows) and predicted (columns): pairs, and their share of the row"
    return table(caption, ["judged ↓ predicted →", *classes], rows)


def classes_table(counts: list[list[int]], classes: tuple[str, ...]) -> Html:
    """List F1, as a bar too, precision and recall of each class."""
    scores = class_scores(np.asarray(counts, np.intp))
    rows = []
    for place, name in enumerate(classes):
        bar = bar_cell(f"{scores.f1[place]:.3f}", scores.f1[place])
        others = f"{scores.precision[place]:.3f}", f"{scores.recall[place]:.3f}", f"{scores.support[place]:,}"
        rows.append([class_name(name), bar, *others])
    return table("F1, precision and recall by class", ["class", "F1", "precision", "recall", "judged pairs"], rows)


def _figures(measured: dict[str, Any]) -> dict[str, float]:
    """Take the figures out of what `zhichun.metrics.figures.measure` gives, those of task 3 under their own names."""
    found = {key: value for key, value in measured.items() if isinstance(value, float)}
    return found | {f"substitute.{key}": value for key, value in measured.get("substitute", {}).items()}
