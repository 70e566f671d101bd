"""Commands that train and measure: train, recipe, evaluate."""

from pathlib import Path
from typing import Annotated

import typer

from zhichun.cli.options import DataOption, RunArgument, app, say, stdout


@app.command()
def train(
    recipe: Annotated[
        str,
        typer.Argument(
            help="`tiny`, `kdd2022:task2`, `my_file.py:function` or a recorded `recipe.json`.", show_default=False
        ),
    ],
    data: DataOption,
    out: Annotated[Path, typer.Option(help="Run folder to make.", show_default=False)],
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run that is there.")] = False,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=VALUE, such as train.epochs=3; `zhichun recipe NAME` lists the keys."),
    ] = None,
) -> None:
    """Train a recipe on a dataset folder.

    On several devices: `accelerate launch -m zhichun train …`. A run that was killed goes on with `--resume` and ends
    with the same weights, bit for bit.
    """
    from zhichun.recipe import load_recipe
    from zhichun.training import train as run_training

    run = run_training(load_recipe(recipe).with_settings(assignments or []), data, out, resume=resume)
    say(f"{run.path}: trained. Next: zhichun evaluate {run.path} --data {data}")


@app.command()
def recipe(
    name: Annotated[str, typer.Argument(help="As for `zhichun train`.", show_default=False)],
    assignments: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE.")] = None,
) -> None:
    """Show every setting of a recipe, with its value and what it means."""
    from zhichun.recipe import describe, load_recipe
    from zhichun.tables import settings_table

    stdout.print(settings_table(describe(load_recipe(name).with_settings(assignments or []))))


@app.command()
def evaluate(
    run: RunArgument,
    data: DataOption,
    split: Annotated[str, typer.Option(help="`test`, `train` or `all`.")] = "test",
    out: Annotated[Path | None, typer.Option(help="Where metrics.json goes; the run folder if not given.")] = None,
) -> None:
    """Measure a run on judged pairs, overall and by locale, beside simple baselines; write `metrics.json`."""
    from zhichun.evaluation import evaluate as measure_run
    from zhichun.tables import confusion_table, figures_table
    from zhichun.tasks import TASKS

    measured = measure_run(run, data, split=split, out=out)
    stdout.print(figures_table(measured))
    if "confusion" in measured:
        stdout.print(confusion_table(measured, TASKS[measured["task"]].classes))
    say(f"{(out or run) / 'metrics.json'}")
