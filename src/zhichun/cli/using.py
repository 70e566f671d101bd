"""Commands that use a trained run: score, rank, serve; and the demo of all."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from zhichun.cli.options import (
    BadRowsOption,
    EngineOption,
    LocaleOption,
    ModelArgument,
    OverwriteOption,
    RunArgument,
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
            "Catalogue to look products up in by product_id: a table, a folder, or an index of `zhichun index`. Its "
            "own column names are given as `products.title=name`."
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
    scorer = load_scorer(run, engine=engine, products=products)
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
def index(
    run: RunArgument,
    products: Annotated[
        Path, option("Products to index: a table, a dataset folder or a folder in the official layout.", "--products")
    ],
    out: Annotated[Path, option("Folder to make, or an index to bring up to date.", "--out")],
    precision: Annotated[
        Literal["fp32", "fp16", "int8"], typer.Option(help="How states are kept: 4, 2 or 1 bytes a number.")
    ] = "fp16",
    columns: ColumnsOption = "",
    locale: LocaleOption = "us",
    on_bad_rows: BadRowsOption = "fail",
) -> None:
    """Compute what depends on products alone, once, for a model that reads query and product apart.

    `zhichun score`, `rank` and `evaluate` take the folder as `--products`. Called again, it computes only what changed
    and deletes what was removed; after a kill it resumes.
    """
    from zhichun.data.prepare.clean_catalogue import read_catalogue
    from zhichun.score.index.build import build_index

    own_columns = mapping(columns, "--columns")
    catalogue = read_catalogue(products, locale=locale, columns=own_columns, on_bad_rows=on_bad_rows, say=say_aside)
    made = build_index(run, catalogue, out, precision=precision, say=say_aside, shown=True)
    say(f"{out}: {made.products:,} products; {made.computed:,} computed, {made.removed:,} removed")


@app.command()
def rank(
    run: ModelArgument,
    query: Annotated[str, argument("The query.")],
    products: Annotated[
        Path,
        typer.Option(
            help="Products to rank: a table, a dataset folder, a folder in the official layout, or an index of "
            "`zhichun index`."
        ),
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
    scorer = load_scorer(run, engine=engine, products=products)
    catalogue = read_catalogue(products, locale=locale, columns=own_columns, on_bad_rows=on_bad_rows, say=say_aside)
    ranked = rank_products(scorer, query, catalogue, locale)
    title = f"{query} ({locale}, {len(ranked):,} products)"
    stdout.print(ranking_table(title, ranked[:top], scorer.task.classes))


@app.command()
def serve(
    run: ModelArgument,
    products: Annotated[
        Path | None,
        option(
            "Catalogue for the page, and for documents that are ids: a table, a dataset folder or a folder in the "
            "official layout."
        ),
    ] = None,
    columns: Annotated[str, option("The catalogue's own column names, `product_id=sku,title=name`.")] = "",
    on_bad_rows: BadRowsOption = "fail",
    locale: Annotated[str, typer.Option(help="Default locale of requests.")] = "us",
    engine: EngineOption = "auto",
    name: Annotated[str | None, option("Name of the model for clients; default: the folder's.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; any but loopback needs keys.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 is any free port.", min=0, max=65535)] = 8080,
    allow_host: Annotated[
        list[str] | None, option("A further Host header that a server without keys accepts; may be repeated.")
    ] = None,
    workers: Annotated[
        int, typer.Option(help="Processes; one uses all cores, and each has the model in memory.", min=1)
    ] = 1,
    api_keys: Annotated[
        Path | None, option("File of API keys, one on each line. ZHICHUN_API_KEYS holds more, separated by commas.")
    ] = None,
    timeout: Annotated[
        float, typer.Option(help="Timeout of a request in seconds; a request may set a shorter one.", min=0.001)
    ] = 30.0,
    queue: Annotated[int, typer.Option(help="Maximum queued pairs; beyond it, 429.", min=1)] = 10_000,
    most_documents: Annotated[int, typer.Option(help="Maximum documents of a request; beyond it, 413.", min=1)] = 1000,
    most_body: Annotated[int, typer.Option(help="Maximum MiB of a request's body; beyond it, 413.", min=1)] = 16,
    longest_query: Annotated[int, typer.Option(help="Maximum characters of a query; beyond it, 422.", min=1)] = 10_000,
    longest_text: Annotated[
        int, typer.Option(help="Maximum characters of a text; the rest is ignored.", min=1)
    ] = 100_000,
    cache: Annotated[int, typer.Option(help="Number of cached scores; 0 is off.", min=0)] = 100_000,
    drain: Annotated[float, typer.Option(help="Seconds for accepted requests at shutdown.", min=0)] = 30.0,
    log_texts: Annotated[bool, typer.Option("--log-texts", help="Write the texts of requests to the log.")] = False,
) -> None:
    """Serve a model: rerank, score and classify over HTTP, as TEI, Jina, Cohere and vLLM do.

    The model is a run, or an export or ensemble of runs; an export needs no torch. SIGTERM or Ctrl-C ends the server
    when all accepted requests are answered.
    """
    from zhichun.serve.http.admission import Keys
    from zhichun.serve.http.limits import Limits
    from zhichun.serve.http.serve_settings import ServeSettings
    from zhichun.serve.http.server import serve as serve_model

    limits = Limits(
        body_bytes=most_body << 20,
        held_bytes=max(192, 4 * most_body) << 20,
        documents=most_documents,
        query_characters=longest_query,
        text_characters=longest_text,
        queue_pairs=queue,
        seconds=timeout,
        drain_seconds=drain,
        cached_scores=cache,
    )
    settings = ServeSettings(
        run=run,
        products=products,
        columns=mapping(columns, "--columns"),
        on_bad_rows=on_bad_rows,
        locale=locale,
        engine=engine,
        name=name,
        host=host,
        port=port,
        allowed_hosts=tuple(allow_host or ()),
        workers=workers,
        keys=Keys.load(api_keys),
        limits=limits,
        log_texts=log_texts,
    )
    serve_model(settings, say)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Folder for all that it makes.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Seed of the shop and of the training.")] = 0,
) -> None:
    """Run all steps on a sample shop: sample, prepare, train, evaluate, rank.

    Run again, it uses existing results; delete the folder to start again.
    """
    from zhichun.cli.demo import run_demo

    run_demo(folder, seed)
