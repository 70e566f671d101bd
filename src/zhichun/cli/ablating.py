"""The command that runs the paper's tables: ablate."""

from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from zhichun.cli.options import app, say, stdout
from zhichun.core.console import stderr
from zhichun.core.errors import UserError

if TYPE_CHECKING:  # it loads pyarrow, which the help of the command line does not need
    from zhichun.measure.report.ablation_tables import ShownTable

# On the terminal there is no room for all; the files have them.
LEFT_OUT = ("95 %", "deviation over seeds", "p", "paper")


@app.command()
def ablate(
    table: Annotated[
        str | None,
        typer.Argument(
            help="`ablations:table4` or `my_file.py:function`; without it the tables are listed.", show_default=False
        ),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Dataset folder of `zhichun prepare`.", show_default=False)] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the table and its runs.", show_default=False)] = None,
    recipe: Annotated[str, typer.Option(help="What the rows change; as for `zhichun train`.")] = "tiny",
    pretraining: Annotated[
        str, typer.Option(help="What the pre-training of rows changes; as for `zhichun pretrain`.")
    ] = "tiny:pretrain",
    seeds: Annotated[int, typer.Option(help="Runs of each row.", min=1)] = 3,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE for all rows; what a row sets itself stays.")
    ] = None,
    pretraining_assignments: Annotated[
        list[str] | None, typer.Option("--set-pretraining", help="KEY=VALUE for the pre-training of all rows.")
    ] = None,
    rows: Annotated[list[str] | None, typer.Option("--row", help="Run this row only; any number of times.")] = None,
    keep_models: Annotated[
        bool, typer.Option("--keep-models", help="Keep the weights of each run, which are dropped when it is measured.")
    ] = False,
) -> None:
    """Run a table of the paper: each row with several seeds, measured, compared and set beside the paper's figures.

    Writes `table.md`, `table.html` and `table.json` anew after each run. Called again it goes on where it was, and runs
    nothing twice.
    """
    from zhichun.ablate import Ablation
    from zhichun.ablate import ablate as run_table
    from zhichun.fit.recipe import PretrainingRecipe, functions_of, load_recipe, load_value
    from zhichun.fit.recipes import ablations
    from zhichun.measure.report.ablation_tables import metric_tables

    if table is None:
        for name, function in functions_of(ablations, Ablation).items():
            say(f"ablations:{name}  {(function.__doc__ or '').strip()}")
        return
    ablation = load_value(table, Ablation, ("ablations",))
    for option, value in (("--data", data), ("--out", out)):
        if value is None:
            raise UserError(f"{table} needs {option}.", remedy=f"zhichun ablate {table} --data DIR --out OUT")
    assert data is not None
    assert out is not None
    result = run_table(
        ablation,
        data,
        out,
        recipe=load_recipe(recipe),
        pretraining=load_recipe(pretraining, PretrainingRecipe),
        settings=assignments or [],
        pretraining_settings=pretraining_assignments or [],
        seeds=seeds,
        only=rows or [],
        keep_models=keep_models,
        say=lambda line: stderr.print(f"ablate: {line}", markup=False, highlight=False, soft_wrap=True),
    )
    for _, shown in metric_tables(result):
        stdout.print(_narrow(shown))
    say(f"{out / 'table.md'}")


def _narrow(shown: "ShownTable") -> Table:
    """Lay a table out for the terminal."""
    table = Table(title=shown.title, caption=shown.note or None)
    kept = [place for place, heading in enumerate(shown.columns) if heading not in LEFT_OUT]
    for place in kept:
        number = place > 0  # names give way where it is narrow, numbers stay whole
        heading = fill(shown.columns[place], 10)
        table.add_column(heading, justify="right" if number else "left", no_wrap=number, overflow="fold")
    for row in shown.rows:
        table.add_row(*(escape(row[place]) for place in kept))
    return table
