"""The command that says what things cost before they are done: plan."""

from pathlib import Path
from typing import Annotated

import typer

from zhichun.cli.options import app, say, stdout


@app.command()
def plan(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Folders of `zhichun train` or `zhichun export` to measure; encoders of four sizes with random "
            "weights if none is given.",
            show_default=False,
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
    candidates: Annotated[
        int | None, typer.Option(help="Candidates of a query, whose latency is shown too.", show_default=False)
    ] = None,
    seconds: Annotated[float, typer.Option(help="About how long to measure.")] = 30,
    out: Annotated[Path | None, typer.Option(help="JSON file to write the answers to.", show_default=False)] = None,
) -> None:
    """Measure this machine for half a minute, and say what a catalogue costs on it.

    Pairs per second, time and memory by model and engine, how many candidates a query may have, and what an epoch of
    training takes. Nothing is downloaded: encoders get random weights, and of large ones few layers are timed.
    """
    from zhichun.core.files import write_json
    from zhichun.score.plan import Question
    from zhichun.score.plan import plan as measure
    from zhichun.score.plan.table import scoring_table, training_table

    question = Question(
        pairs=pairs, judged=judged, tokens=tokens, latency=latency_ms / 1000, candidates=candidates, seconds=seconds
    )
    answers = measure(question, runs or [])
    stdout.print(scoring_table(answers))
    if answers["training"]:
        stdout.print(training_table(answers))
    if out is not None:
        write_json(out, answers)
        say(f"{out}: the answers as JSON")
