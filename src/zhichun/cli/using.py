"""Commands that use a trained run: score, rank; and the demo of all."""

from pathlib import Path
from typing import Annotated

import typer

from zhichun.cli.options import (
    BadRowsOption,
    EngineOption,
    LocaleOption,
    ModelArgument,
    OverwriteOption,
    app,
    argument,
    mapping,
    option,
    say,
    stdout,
)
from zhichun.core.console import Bar, say_aside
from zhichun.core.errors import UserError

ColumnsOption = Annotated[
    str,
    typer.Option(
        help="Own column names, `query=search_term,title=name`: query, product_id, locale, title, description, "
        "bullets, brand, color."
    ),
]


@app.command()
def score(
    run: ModelArgument,
    pairs: Annotated[Path, argument("Pairs to score: CSV, TSV, JSON Lines or Parquet.")],
    out: Annotated[Path, argument("File to write: .parquet, .csv or .tsv.")],
    products: Annotated[
        Path | None,
        option(
            "Catalogue to look products up in by product_id: a table or a folder. Its own column names are given "
            "as `products.title=name`."
        ),
    ] = None,
    columns: ColumnsOption = "",
    locale: LocaleOption = "us",
    on_bad_rows: BadRowsOption = "fail",
    prefix: Annotated[str, option("Prefix of the new columns.")] = "",
    engine: EngineOption = "auto",
    overwrite: OverwriteOption = False,
) -> None:
    """Score a file of query-product pairs: appends probabilities, label and gain to its rows.

    The file is read as a stream. After a kill, the same command resumes.
    """
    from zhichun.score.folders import fingerprint_of
    from zhichun.score.job import ScoringJob
    from zhichun.score.scorer import load_scorer

    own_columns = mapping(columns, "--columns")
    if out.is_file() and not overwrite:
        raise UserError("the file is there already.", file=out, remedy="Choose another name, or give --overwrite.")
    scorer = load_scorer(run, engine=engine)
    job = ScoringJob(
        scorer=scorer,
        pairs=pairs,
        out=out,
        model_fingerprint=f"{fingerprint_of(run)} {scorer.engine_name}",
        catalogue=products,
        columns=own_columns,
        locale=locale,
        prefix=prefix,
        on_bad_rows=on_bad_rows,
        say=say_aside,
    )
    with Bar("score", "pairs") as bar:
        bar.start(0, job.total())
        rows = job.run(lambda done: bar.advance(done, steps=done))
    say(f"{out}: {rows:,} pairs scored by {scorer.engine_name}")


@app.command()
def rank(
    run: ModelArgument,
    query: Annotated[str, argument("The query.")],
    products: Annotated[
        Path, typer.Option(help="Products to rank: a table, a dataset folder or a folder in the official layout.")
    ],
    locale: Annotated[str, typer.Option(help="Locale of the query; products of others are left out.")] = "us",
    top: Annotated[int, typer.Option(help="Products to show.", min=1)] = 10,
    columns: ColumnsOption = "",
    on_bad_rows: BadRowsOption = "fail",
    engine: EngineOption = "auto",
) -> None:
    """Rank products for one query and show the best with their label, probabilities and score."""
    from zhichun.cli.tables import ranking_table
    from zhichun.data.prepare.clean_catalogue import read_catalogue
    from zhichun.score.given import locale_of
    from zhichun.score.rank import rank as rank_products
    from zhichun.score.scorer import load_scorer

    own_columns, locale = mapping(columns, "--columns"), locale_of(locale)
    scorer = load_scorer(run, engine=engine)
    catalogue = read_catalogue(products, locale=locale, columns=own_columns, on_bad_rows=on_bad_rows, say=say_aside)
    ranked = rank_products(scorer, query, catalogue, locale)
    stdout.print(ranking_table(f"{query} ({locale}, {len(ranked):,} products)", ranked[:top], scorer.task.classes))


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Folder for all that it makes.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Seed of the shop and of the training.")] = 0,
) -> None:
    """Run all steps on a sample shop: sample, prepare, train, evaluate, rank.

    Run again, it uses existing results; delete the folder to start again.
    """
    from zhichun.cli.demo import run_demo

    run_demo(folder, seed, stdout)
