"""The answers of `zhichun plan` as tables on the terminal."""

from typing import Any

from rich.markup import escape
from rich.table import Table


def scoring_table(answers: dict[str, Any]) -> Table:
    """Lay out what scoring costs."""
    question, rows = answers["question"], answers["scoring"]
    table = Table(
        title=f"scoring {question['pairs']:,} pairs of about {question['tokens']} tokens",
        caption="pairs/s are measured and scaled by the layers that were not timed; the rest is worked out from them",
    )
    within = f"candidates in\n{question['latency'] * 1000:g} ms"
    heads = ["engine", "layers\ntimed", "pairs/s", "time", "memory", within]
    if question["candidates"] is not None:
        heads.append(f"latency of\n{question['candidates']:,}")
    table.add_column("model", overflow="fold")
    for head in heads:
        table.add_column(head, no_wrap=True, justify="left" if head == "engine" else "right")
    for row in rows:
        cells = _cells(row, f"{row['candidates']:,}")
        table.add_row(*cells, *([_duration(row["latency"])] if "latency" in row else []))
    return table


def training_table(answers: dict[str, Any]) -> Table:
    """Lay out what an epoch of plain fine-tuning costs."""
    question = answers["question"]
    table = Table(
        title=f"an epoch of plain fine-tuning on {question['judged']:,} pairs",
        caption="with all of the paper's methods a step costs 2.3 times as much",
    )
    table.add_column("model", overflow="fold")
    for head in ("layers\ntimed", "pairs/s", "time", "memory"):
        table.add_column(head, no_wrap=True, justify="right")
    for row in answers["training"]:
        model, _, *cells = _cells(row)
        table.add_row(model, *cells)
    return table


def _cells(row: dict[str, Any], *more: str) -> list[str]:
    rate, memory = row["pairs_per_second"], row["memory_gib"]
    shown = f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}" if rate >= 1 else f"{rate:.2g}"
    return [
        escape(row["model"]),
        row["engine"],
        row["layers_timed"],
        shown,
        _duration(row["seconds"]),
        f"{memory:.1f} GiB",
        *more,
    ]


def _duration(seconds: float) -> str:
    """Write a time in the unit that a person would take."""
    for size, unit in ((86_400, "days"), (3_600, "h"), (60, "min"), (1, "s")):
        if seconds >= 2 * size or (size == 1 and seconds >= 1):
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds * 1000:.0f} ms"
