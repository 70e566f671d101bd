"""Commands that use a trained run: score, index, rank, serve; and the demo of all."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from zhichun.cli.options import AtLeast1, command, mapping, say, stdout
from zhichun.core.console import Bar, say_aside
from zhichun.core.errors import UserError


@command
def score(
    run: Path,
    pairs: Path,
    out: Path,
    *,
    products: Path | None = None,
    columns: str = "",
    locale: str = "us",
    on_bad_rows: Literal["fail", "drop"] = "fail",
    prefix: str = "",
    engine: str = "auto",
    overwrite: bool = False,
) -> None:
    """Score a file of query-product pairs: appends probabilities, label and gain to its rows.

    The file is read as a stream. After a kill, the same command resumes.

    Parameters
    ----------
    pairs
        Pairs to score: CSV, TSV, JSON Lines or Parquet.
    out
        File to write: .parquet, .csv or .tsv.
    products
        Catalogue to look products up in by product_id: a table, a folder, or an index of `zhichun index`. Its own
        column names are given as `products.title=name`.
    prefix
        Prefix of the new columns.
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


@command
def index(
    run: Path,
    *,
    products: Path,
    out: Path,
    precision: Literal["fp32", "fp16", "int8"] = "fp16",
    columns: str = "",
    locale: str = "us",
    on_bad_rows: Literal["fail", "drop"] = "fail",
) -> None:
    """Compute what depends on products alone, once, for a model that reads query and product apart.

    `zhichun score`, `rank` and `evaluate` take the folder as `--products`. Called again, it computes only what changed
    and deletes what was removed; after a kill it resumes.

    Parameters
    ----------
    run
        Run folder of `zhichun train`.
    products
        Products to index: a table, a dataset folder or a folder in the official layout.
    out
        Folder to make, or an index to bring up to date.
    precision
        How states are kept: 4, 2 or 1 bytes a number.
    """
    from zhichun.data.prepare.clean_catalogue import read_catalogue
    from zhichun.score.index.build import build_index

    own_columns = mapping(columns, "--columns")
    catalogue = read_catalogue(products, locale=locale, columns=own_columns, on_bad_rows=on_bad_rows, say=say_aside)
    made = build_index(run, catalogue, out, precision=precision, say=say_aside, shown=True)
    say(f"{out}: {made.products:,} products; {made.computed:,} computed, {made.removed:,} removed")


@command
def rank(
    run: Path,
    query: str,
    *,
    products: Path,
    locale: str = "us",
    top: AtLeast1 = 10,
    columns: str = "",
    on_bad_rows: Literal["fail", "drop"] = "fail",
    engine: str = "auto",
) -> None:
    """Rank products for one query and show the best with their label, probabilities and score.

    Parameters
    ----------
    query
        The query.
    products
        Products to rank: a table, a dataset folder, a folder in the official layout, or an index of `zhichun index`.
    locale
        Locale of the query; products of others are left out.
    top
        Products to show.
    """
    from zhichun.cli.tables import ranking_table
    from zhichun.data.prepare.clean_catalogue import read_catalogue
    from zhichun.score.given import locale_of
    from zhichun.score.rank import rank as rank_products
    from zhichun.score.scorer import load_scorer

    own_columns, locale = mapping(columns, "--columns"), locale_of(locale)
    scorer = load_scorer(run, engine=engine, products=products)
    catalogue = read_catalogue(
        products, locale=locale, columns=own_columns, on_bad_rows=on_bad_rows, keep=scorer.own, say=say_aside
    )
    ranked = rank_products(scorer, query, catalogue, locale)
    title = f"{query} ({locale}, {len(ranked):,} products)"
    stdout.print(ranking_table(title, ranked[:top], scorer.task.classes))


@command
def serve(
    run: Path,
    *,
    products: Path | None = None,
    columns: str = "",
    on_bad_rows: Literal["fail", "drop"] = "fail",
    locale: str = "us",
    engine: str = "auto",
    name: str | None = None,
    host: str = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8080,
    allow_host: list[str] | None = None,
    workers: AtLeast1 = 1,
    api_keys: Path | None = None,
    timeout: Annotated[float, typer.Option(min=0.001)] = 30.0,
    queue: AtLeast1 = 10_000,
    most_documents: AtLeast1 = 1000,
    most_body: AtLeast1 = 16,
    longest_query: AtLeast1 = 10_000,
    longest_text: AtLeast1 = 100_000,
    cache: Annotated[int, typer.Option(min=0)] = 100_000,
    drain: Annotated[float, typer.Option(min=0)] = 30.0,
    log_texts: bool = False,
) -> None:
    """Serve a model: rerank, score and classify over HTTP, as TEI, Jina, Cohere and vLLM do.

    The model is a run, or an export or ensemble of runs; an export needs no torch. SIGTERM or Ctrl-C ends the server
    when all accepted requests are answered.

    Parameters
    ----------
    products
        Catalogue for the page, and for documents that are ids: a table, a dataset folder or a folder in the official
        layout.
    columns
        The catalogue's own column names, `product_id=sku,title=name`.
    locale
        Default locale of requests.
    name
        Name of the model for clients; default: the folder's.
    host
        Address to listen on; any but loopback needs keys.
    port
        Port to listen on; 0 is any free port.
    allow_host
        A further Host header that a server without keys accepts; may be repeated.
    workers
        Processes; one uses all cores, and each has the model in memory.
    api_keys
        File of API keys, one on each line. ZHICHUN_API_KEYS holds more, separated by commas.
    timeout
        Timeout of a request in seconds; a request may set a shorter one.
    queue
        Maximum queued pairs; beyond it, 429.
    most_documents
        Maximum documents of a request; beyond it, 413.
    most_body
        Maximum MiB of a request's body; beyond it, 413.
    longest_query
        Maximum characters of a query; beyond it, 422.
    longest_text
        Maximum characters of a text; the rest is ignored.
    cache
        Number of cached scores; 0 is off.
    drain
        Seconds for accepted requests at shutdown.
    log_texts
        Write the texts of requests to the log.
    """
    from zhichun.serve.http.admission import Keys
    from zhichun.serve.http.limits import Limits
    from zhichun.serve.http.serve_settings import ServeSettings
    from zhichun.serve.http.server import serve as serve_model

    limits = Limits(
        body_bytes=most_body << 20,
        held_bytes=max(128, 4 * most_body) << 20,
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


@command
def demo(folder: Path = Path("demo"), *, seed: int = 0) -> None:
    """Run all steps on a sample shop: sample, prepare, train, evaluate, rank.

    Run again, it uses existing results; delete the folder to start again.

    Parameters
    ----------
    folder
        Folder for all that it makes.
    seed
        Seed of the shop and of the training.
    """
    from zhichun.cli.demo import run_demo

    run_demo(folder, seed)
