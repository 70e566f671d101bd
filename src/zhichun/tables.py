"""Figures and rankings as tables on the terminal."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from zhichun import schema
from zhichun.ranking import Ranked

LABEL_COLORS = {"E": "green", "S": "yellow", "C": "cyan", "I": "red"}
SHOWN = ("micro_f1", "macro_f1", "f1.E", "f1.S", "f1.C", "f1.I", "f1.other", "ndcg", "ndcg.official-script", "ndcg@10")
SHOWN_TOO = ("mrr", "precision@1", "precision@5", "log_loss", "ece")


def figures_table(measured: dict[str, Any]) -> Table:
    """Lay out what `zhichun.figures.measure` gives: overall, by locale, and the baselines beside it."""
    gains = " ".join(f"{label} {gain:g}" for label, gain in schema.GAINS["esci"].items())
    table = Table(title=f"{measured['split']}: {measured['pairs']:,} pairs of {measured['queries']:,} queries")
    table.caption = f"ndcg: gains {gains}; ndcg.official-script: S and C swapped; ties are averaged"
    locales = list(measured.get("by_locale", {}))
    for name in ("", "all", *locales, "always Exact", "random order"):
        table.add_column(name, justify="left" if not name else "right")
    always = measured.get("always_exact", measured.get("always_other", {}))
    for name in (*SHOWN, *SHOWN_TOO):
        if name in measured:
            of_locales = [measured["by_locale"][locale].get(name) for locale in locales]
            cells = [measured[name], *of_locales, always.get(name), measured.get("random_order", {}).get(name)]
            table.add_row(name, *("" if cell is None else f"{cell:.4f}" for cell in cells))
    return table


def confusion_table(measured: dict[str, Any], classes: Sequence[str]) -> Table:
    """Lay out the confusion matrix; rows are the truth."""
    table = Table(title="judged ↓ predicted →")
    for name in ("", *classes, "recall"):
        table.add_column(name, justify="right")
    for name, row in zip(classes, measured["confusion"], strict=True):
        recall = row[classes.index(name)] / max(1, sum(row))
        table.add_row(name, *(f"{count:,}" for count in row), f"{recall:.3f}")
    return table


def ranking_table(
    query: str, ranked: Sequence[Ranked], classes: Sequence[str], judged: dict[str, str] | None = None
) -> Table:
    """Lay out a ranking with label, probabilities and score, and with the judgement where it is known."""
    table = Table(title=query, title_justify="left")
    table.add_column("#", justify="right")
    table.add_column("product", overflow="ellipsis", no_wrap=True, max_width=60)
    if judged is not None:
        table.add_column("judged")
    if classes:
        table.add_column("label")
    for name in (*classes, "score"):
        table.add_column(name, justify="right")
    for place, product in enumerate(ranked, start=1):
        cells = [str(place), product.title]
        if judged is not None:
            cells.append(badge(judged.get(product.product_id)))
        if classes:
            cells.append(badge(product.label))
        table.add_row(*cells, *(f"{share:.2f}" for share in product.probabilities), f"{product.score:.4f}")
    return table


def badge(label: str | None) -> str:
    """Write a label in its color."""
    color = LABEL_COLORS.get(label or "")
    return label or "" if color is None else f"[bold {color}]{label}[/]"
