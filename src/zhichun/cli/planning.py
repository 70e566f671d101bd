"""The command that measures what things cost before they are done: plan."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from zhichun.cli.options import app, argument, option, say, stdout


@app.command()
def plan(
    models: Annotated[
        list[str] | None,
        argument(
            "Folders of `zhichun train` or `zhichun export`, or encoders by name: `tiny`, `MiniLM-L6-384`, "
            "`XLM-R-base` or `XLM-R-large`, which get random weights, or any on the hub. The first three if none is "
            "given."
        ),
    ] = None,
    pairs: Annotated[int, typer.Option(help="Pairs to score.")] = 1_000_000,
    judged: Annotated[int, typer.Option(help="Pairs of an epoch of training.")] = 100_000,
    tokens: Annotated[
        int, typer.Option(help="Tokens of a pair; pairs of the Shopping Queries Dataset have 175, cut to 256.")
    ] = 175,
    latency_ms: Annotated[
        float, typer.Option(help="Milliseconds within which a query's candidates are to be scored.")
    ] = 100,
    candidates: Annotated[int | None, option("Candidates of a query, whose latency is shown too.")] = None,
    seconds: Annotated[float, typer.Option(help="About how long to measure.")] = 30,
    out: Annotated[Path | None, option("JSON file to write the figures to.")] = None,
) -> None:
    """Measure this machine for half a minute: what a catalogue costs to score on it, and an epoch of training.

    Pairs per second, time and memory by model and engine, and how many candidates a query may have. Runs and exports
    are timed from texts to scores; encoders that are only named are timed by torch, to which an export is several times
    as fast.
    """
    from zhichun.core.files import write_json
    from zhichun.score.plan import DEFAULT, Question
    from zhichun.score.plan import plan as measure

    question = Question(
        pairs=pairs, judged=judged, tokens=tokens, latency=latency_ms / 1000, candidates=candidates, seconds=seconds
    )
    answers = measure(question, models or DEFAULT)
    stdout.print(scoring_table(answers))
    if answers["training"]:
        stdout.print(training_table(answers))
    if out is not None:
        write_json(out, answers)
        say(f"{out}: the figures as JSON")


def scoring_table(answers: dict[str, Any]) -> Table:
    """Lay out what scoring costs."""
    question = answers["question"]
    heads = ["engine", "pairs/s", "time", "memory", f"candidates\nin {question['latency'] * 1000:g} ms"]
    if question["candidates"] is not None:
        heads.append(f"latency of\n{question['candidates']:,}")
    table = _table(f"scoring {question['pairs']:,} pairs of about {question['tokens']} tokens", heads)
    for row in answers["scoring"]:
        latency = [_duration(row["latency"])] if "latency" in row else []
        table.add_row(escape(row["model"]), row["engine"], *_cells(row), f"{row['candidates']:,}", *latency)
    return table


def training_table(answers: dict[str, Any]) -> Table:
    """Lay out what an epoch of plain fine-tuning costs."""
    title = f"an epoch of plain fine-tuning on {answers['question']['judged']:,} pairs"
    table = _table(title, ["pairs/s", "time", "memory"])
    table.caption = "with all of the paper's methods a step costs 2.3 times as much"
    for row in answers["training"]:
        table.add_row(escape(row["model"]), *_cells(row))
    return table


def _table(title: str, heads: Sequence[str]) -> Table:
    table = Table(title=title)
    table.add_column("model", overflow="fold", min_width=13)
    for head in heads:
        table.add_column(head, no_wrap=True, justify="left" if head == "engine" else "right")
    return table


def _cells(row: dict[str, Any]) -> list[str]:
    rate = row["pairs_per_second"]
    shown = f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}" if rate >= 1 else f"{rate:.2g}"
    return [shown, _duration(row["seconds"]), f"{row['memory_gib']:.1f} GiB"]


def _duration(seconds: float) -> str:
    """Write a time in the unit that a person would take."""
    for size, unit in ((86_400, "days"), (3_600, "h"), (60, "min"), (1, "s")):
        if seconds >= 2 * size or (size == 1 and seconds >= 1):
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds * 1000:.0f} ms"
