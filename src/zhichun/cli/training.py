"""Commands that train and measure: train, recipe, evaluate."""

from pathlib import Path
from typing import Annotated

import typer

from zhichun.cli.options import DataOption, EngineOption, ModelArgument, app, argument, option, say, stdout


@app.command()
def train(
    recipe: Annotated[
        str,
        argument("`tiny`, `kdd2022:task2`, `my_file.py:function` or a recorded `recipe.json`."),
    ],
    data: DataOption,
    out: Annotated[Path, option("Run folder to make.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run that is there.")] = False,
    folds: Annotated[
        int | None, option("Train one run for each fold of the dataset, OUT/fold-0 …, without it.")
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=VALUE, such as train.epochs=3; `zhichun recipe NAME` lists the keys."),
    ] = None,
) -> None:
    """Train a recipe on a dataset folder.

    On several devices: `accelerate launch -m zhichun train …`. A run that was killed goes on with `--resume` and ends
    with the same weights, bit for bit.
    """
    from zhichun.fit.recipe import load_recipe

    to_train = load_recipe(recipe).with_settings(assignments or [])
    if folds is not None:
        from zhichun.fit.folds import train_folds

        train_folds(to_train, data, out, folds=folds, resume=resume)
        say(f"{out}: {folds} runs trained. Next: zhichun audit --data {data} --runs {out} --out AUDIT")
        return
    from zhichun.fit.train import train as run_training

    run = run_training(to_train, data, out, resume=resume)
    say(f"{run.path}: trained. Next: zhichun evaluate {run.path} --data {data}")


@app.command()
def pretrain(
    recipe: Annotated[
        str,
        argument("`tiny:pretrain`, `kdd2022:pretrain`, `my_file.py:function` or a recorded `recipe.json`."),
    ],
    data: DataOption,
    out: Annotated[Path, option("Run folder to make.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run that is there.")] = False,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=VALUE, such as train.epochs=3; `zhichun recipe NAME` lists the keys."),
    ] = None,
) -> None:
    """Let an encoder read the catalogue, before `zhichun train` shows it judgements.

    The texts of all products are read and no label is. On several devices, and after a kill, as `zhichun train`.
    """
    from zhichun.fit.pretrain import pretrain as run_pretraining
    from zhichun.fit.recipe import PretrainingRecipe, load_recipe

    found = load_recipe(recipe, PretrainingRecipe).with_settings(assignments or [])
    run = run_pretraining(found, data, out, resume=resume)
    then = f"zhichun train RECIPE --data {data} --out RUN --set model.encoder={run.path}"
    say(f"{run.encoder}: pre-trained. Next: {then}")


@app.command()
def recipe(
    name: Annotated[str, argument("As for `zhichun train` and `zhichun pretrain`.")],
    assignments: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE.")] = None,
) -> None:
    """Show every setting of a recipe, with its value and what it means."""
    from zhichun.cli.tables import settings_table
    from zhichun.fit.recipe import AnyRecipe, describe, load_recipe

    stdout.print(settings_table(describe(load_recipe(name, AnyRecipe).with_settings(assignments or []))))


@app.command()
def evaluate(
    run: ModelArgument,
    data: DataOption,
    split: Annotated[str, typer.Option(help="`test`, `train` or `all`.")] = "test",
    version: Annotated[
        str | None,
        option(
            "Pairs of the `small` or `large` version of the dataset, or `all`.",
            show_default="small for ranking where the dataset has it, otherwise all",
        ),
    ] = None,
    out: Annotated[Path | None, option("Where metrics.json goes; the run folder if not given.")] = None,
    engine: EngineOption = "auto",
) -> None:
    """Measure a run on judged pairs, overall and by locale, beside simple baselines; write `metrics.json`."""
    from zhichun.cli.ensembling import show_members
    from zhichun.cli.tables import confusion_table, figures_table
    from zhichun.core.tasks import TASKS
    from zhichun.measure.evaluate import evaluate as measure_run

    measured = measure_run(run, data, split=split, version=version, out=out, engine=engine)
    stdout.print(figures_table(measured))
    if "confusion" in measured:
        stdout.print(confusion_table(measured, TASKS[measured["task"]].classes))
    if "ensemble" in measured:
        show_members(measured)
    say(f"{(out or run) / 'metrics.json'}")
