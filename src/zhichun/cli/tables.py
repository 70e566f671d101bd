"""Figures and rankings as tables on the terminal.

Where it is narrow, titles and names give way: numbers stay whole.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from zhichun.core import schema
from zhichun.score.export.export_folder import Check
from zhichun.score.rank import Ranked

LABEL_COLORS = {"E": "green", "S": "yellow", "C": "cyan", "I": "red"}
# The others are in metrics.json; more columns do not fit beside each other.
LOCALES_SHOWN = 4


def figures_table(measured: dict[str, Any]) -> Table:
    """Lay out what `zhichun.metrics.figures.measure` gives: overall, by locale, and the baselines beside it."""
    version = measured.get("version", "all")
    of = "" if version == "all" else f", {version} version"
    table = Table(title=f"{measured['split']}{of}: {measured['pairs']:,} pairs of {measured['queries']:,} queries")
    by_locale = measured.get("by_locale", {})
    largest = sorted(by_locale, key=lambda name: -by_locale[name]["pairs"])[:LOCALES_SHOWN]
    columns = {"all": _flat(measured), **{name: _flat(by_locale[name]) for name in by_locale if name in largest}}
    for key, heading in (
        ("always_exact", "always\nExact"),
        ("always_other", "always\nother"),
        ("random_order", "random\norder"),
    ):
        if key in measured:
            columns[heading] = measured[key]
    table.add_column("", overflow="fold")
    for heading in columns:
        table.add_column(escape(heading), justify="right", no_wrap=True)
    for name in (name for name, figure in columns["all"].items() if isinstance(figure, float)):
        cells = [figures.get(name) for figures in columns.values()]
        table.add_row(name, *("" if cell is None else f"{cell:.4f}" for cell in cells))
    if "ndcg" in measured:
        gains = " ".join(f"{label} {gain:g}" for label, gain in schema.GAINS["esci"].items())
        table.caption = f"ndcg: gains {gains}; ndcg.official-script: S and C swapped; ties are averaged"
    return table


def _flat(figures: dict[str, Any]) -> dict[str, Any]:
    """Put the figures of task 3 from four classes beside the others."""
    return {**figures, **{f"substitute.{name}": value for name, value in figures.get("substitute", {}).items()}}


def confusion_table(measured: dict[str, Any], classes: Sequence[str]) -> Table:
    """Lay out the confusion matrix; rows are the truth."""
    table = Table(title="judged ↓ predicted →")
    for name in ("", *classes, "recall"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, row in zip(classes, measured["confusion"], strict=True):
        recall = row[classes.index(name)] / max(1, sum(row))
        table.add_row(name, *(f"{count:,}" for count in row), f"{recall:.3f}")
    return table


def ranking_table(
    query: str, ranked: Sequence[Ranked], classes: Sequence[str], judged: dict[str, str] | None = None
) -> Table:
    """Lay out a ranking with label, probabilities and score, and with the judgement where it is known."""
    table = Table(title=escape(query), title_justify="left")
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("product", max_width=60)  # the one column that may shrink
    if judged is not None:
        table.add_column("judged", no_wrap=True)
    if classes:
        table.add_column("label", no_wrap=True)
    for name in (*classes, "score"):
        table.add_column(name, justify="right", no_wrap=True)
    for place, product in enumerate(ranked, start=1):
        cells: list[str | Text] = [str(place), Text(product.title, no_wrap=True, overflow="ellipsis")]
        if judged is not None:
            cells.append(badge(judged.get(product.product_id)))
        if classes:
            cells.append(badge(product.label))
        table.add_row(*cells, *(f"{share:.2f}" for share in product.probabilities), f"{product.score:.4f}")
    return table


def settings_table(rows: Iterable[tuple[str, str, str]]) -> Table:
    """Lay out what `zhichun.fit.recipe.describe` gives: names whole, so that they can be copied."""
    table = Table(expand=True)
    table.add_column("setting", no_wrap=True)
    table.add_column("value", overflow="fold", max_width=25)
    table.add_column("meaning", overflow="fold", ratio=1)
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def badge(label: str | None) -> str:
    """Write a label in its color."""
    color = LABEL_COLORS.get(label or "")
    return label or "" if color is None else f"[bold {color}]{label}[/]"


def checks_table(checks: Mapping[str, Check]) -> Table:
    """Lay out how each engine of an export answers beside the model that it was made from."""
    pairs = max((check.pairs for check in checks.values()), default=0)
    table = Table(title=f"beside the model, on {pairs:,} held-out pairs")
    table.add_column("engine", overflow="fold")
    for heading in ("same labels", "score, mean", "logits, most", "safe"):
        table.add_column(heading, justify="right", no_wrap=True)
    for engine, check in checks.items():
        labels = "" if check.labels is None else f"{check.labels:.1%}"
        table.add_row(engine, labels, f"±{check.score:.5f}", f"±{check.logits:.5f}", "yes" if check.safe else "no")
    return table
