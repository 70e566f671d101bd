"""Commands that use a trained run: score, index, rank, serve; and the demo of all."""

import shlex
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from zhichun.cli.options import AtLeast1, app, command, mapping, say, stdout
from zhichun.core import schema
from zhichun.core.console import Bar, say_aside
from zhichun.core.errors import UserError


@command
def score(
    run: Path,
    pairs: str,
    out: str,
    *,
    products: Path | None = None,
    columns: str = "",
    locale: str = "us",
    on_bad_rows: Literal["fail", "drop"] = "fail",
    prefix: str = "",
    engine: str = "auto",
    overwrite: bool = False,
    shard: str | None = None,
    ray: str | None = None,
    part_rows: AtLeast1 = 20_000,
    since: str | None = None,
    retry_failed: bool = False,
    finish: bool = False,
) -> None:
    """Score query-product pairs: appends probabilities, label and gain to their rows.

    Files are read as a stream. After a kill, the same command resumes. Into a folder, several processes can score one
    job, each a shard of it.

    Parameters
    ----------
    pairs
        Pairs to score: CSV, TSV, JSON Lines or Parquet; a file, a folder or a pattern, or a URL such as s3://….
    out
        File to write: .parquet, .csv, .tsv or .jsonl; .run, a TREC run file, for which pairs have a query_id; or a
        folder of Parquet parts, or its URL.
    products
        Catalogue to look products up in by product_id: a table, a folder, or an index of `zhichun index`. Its own
        column names are given as `products.title=name`.
    prefix
        Prefix of the new columns.
    shard
        Which shard of the job this process scores, `0/4` to `3/4`; `auto` under Slurm or Kubernetes, `auto/4` where
        these do not say how many there are.
    ray
        Score on a Ray cluster: its address, or `auto` for the one of this machine, or else this machine alone.
    overwrite
        Replace the file that is there; a folder of parts is resumed instead.
    part_rows
        Rows of a part at most.
    since
        Folder of an earlier job: pairs whose query, texts and model are the same keep their scores.
    retry_failed
        Score again the parts of which rows failed; the catalogue may have changed.
    finish
        Only write `_SUCCESS`, if every shard is done.
    """
    from zhichun.data.readers.pair_tables import KINDS, RUNS, kind_of
    from zhichun.score.job import ScoringJob, finish_job, is_folder
    from zhichun.score.parts import Shard

    options: dict[str, Any] = {
        "run": run,
        "pairs": pairs,
        "out": out,
        "engine": engine,
        "catalogue": products,
        "columns": mapping(columns, "--columns"),
        "locale": locale,
        "on_bad_rows": on_bad_rows,
        "prefix": prefix,
        "chunk_rows": part_rows,
        "since": since,
        "retry_failed": retry_failed,
    }
    if not is_folder(out):
        kind_of(Path(out), (*KINDS, *RUNS))
        of_folders = {"shard": shard, "ray": ray, "since": since, "retry-failed": retry_failed, "finish": finish}
        if used := [name for name, value in of_folders.items() if value]:
            remedy = "Name a folder, without an ending."
            raise UserError(f"--{used[0]} needs a folder of parts.", file=out, remedy=remedy)
        if Path(out).is_file() and not overwrite:
            raise UserError("the file is there already.", file=out, remedy="Choose another name, or give --overwrite.")
    elif overwrite:
        remedy = "Leave it out: what is there is resumed. Another job needs another folder."
        raise UserError("--overwrite replaces a file, never a folder of parts.", file=out, remedy=remedy)
    if finish:
        whole: tuple[int, int] | None = finish_job(out)
    elif ray:
        from zhichun.score.on_ray import score_on_ray

        if shard:
            raise UserError("--shard and --ray are two ways to share a job.", remedy="Leave one of them out.")
        whole = score_on_ray(ray, options)
    else:
        of_job, job = Shard.parse(shard) if shard else Shard(), ScoringJob.load(**options, say=say_aside)
        with Bar("score", "pairs") as bar:
            bar.start(0, job.total(of_job))
            if not is_folder(out):
                rows = job.run(lambda done: bar.advance(done, steps=done))
                say(f"{out}: {rows:,} pairs scored by {job.scorer.engine_name}")
                return
            totals, whole = job.run_shard(of_job, lambda done: bar.advance(done, steps=done))
        if of_job.count > 1:
            say(f"{out}: shard {of_job} is done, {_counted(*totals)}")
    if whole is not None:
        say(f"{out}: complete, {_counted(*whole)}")


def _counted(rows: int, failed: int) -> str:
    listed = (
        f"; {failed:,} rows failed, see _failed in it: correct the catalogue and run again with --retry-failed, "
        "or the pairs and score them into another folder with --since this one"
    )
    return f"{rows:,} pairs scored" + listed * (failed > 0)


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
    shard: str | None = None,
    finish: bool = False,
) -> None:
    """Compute what depends on products alone, once, for a model that reads query and product apart, or for a stack.

    `zhichun score`, `rank` and `evaluate` take the folder as `--products`. Called again, it computes only what changed
    and deletes what was removed; after a kill it resumes. Several processes can share it, each a shard of it.

    Parameters
    ----------
    run
        Run folder of `zhichun train`, or a stack with a similarity.
    products
        Products to index: a table, a dataset folder or a folder in the official layout.
    out
        Folder to make, or an index to bring up to date.
    precision
        How states are kept: 4, 2 or 1 bytes a number.
    shard
        Which part of the work is this process's, as for `zhichun score`; the one that ends last completes the index.
    finish
        Only complete the index, if every shard is done.
    """
    from zhichun.data.prepare.clean_catalogue import read_catalogue
    from zhichun.score.index.build import build_index
    from zhichun.score.parts import Shard

    of_index = None if finish else Shard.parse(shard or "0/1")
    own_columns = mapping(columns, "--columns")
    catalogue = read_catalogue(products, locale=locale, columns=own_columns, on_bad_rows=on_bad_rows, say=say_aside)
    made = build_index(run, catalogue, out, precision=precision, shard=of_index, say=say_aside, shown=True)
    if made.missing:
        say(f"{out}: shard {of_index} is done, {made.computed:,} products computed; others are not done yet")
    else:
        say(f"{out}: {made.products:,} products; {made.computed:,} computed, {made.removed:,} removed")


@command
def rank(
    run: Path,
    query: str,
    *,
    products: Path,
    locale: str = "us",
    top: AtLeast1 = 10,
    first: Annotated[int | None, typer.Option(min=1)] = None,
    out: Path | None = None,
    query_id: str = "1",
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
    first
        Of an index: score only so many products, those nearest to the query by their mean state, such as 500.
    out
        File to write the whole ranking to: .parquet, .csv, .tsv or .jsonl; or .run, a TREC run file.
    query_id
        Id of the query in a run file.
    """
    from zhichun.cli.tables import ranking_table
    from zhichun.data.prepare.clean_catalogue import read_catalogue
    from zhichun.score.given import locale_of
    from zhichun.score.rank import rank as rank_products
    from zhichun.score.rank import write_ranking
    from zhichun.score.scorer import load_scorer

    own_columns, locale = mapping(columns, "--columns"), locale_of(locale)
    scorer = load_scorer(run, engine=engine, products=products)
    catalogue = read_catalogue(
        products, locale=locale, columns=own_columns, on_bad_rows=on_bad_rows, keep=scorer.own, say=say_aside
    )
    ranked = rank_products(scorer, query, catalogue, locale, first=first)
    stdout.print(ranking_table(f"{query} ({locale}, {len(ranked):,} products)", ranked[:top], scorer.task.classes))
    if out is not None:
        write_ranking(out, ranked, query, locale, scorer.task.classes, query_id)
        say(f"{out}: all of them")


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

    The model is a run, an export, an ensemble or a stack; an export needs no torch. SIGTERM or Ctrl-C ends the server
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
    from zhichun.serve.app import ServeSettings
    from zhichun.serve.guard import Keys
    from zhichun.serve.limits import Limits
    from zhichun.serve.server import serve as serve_model

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


# Enough to tell Irrelevant, within three minutes on two cores (experiments/LOG.md).
PRODUCTS, QUERIES, FASTER = 2000, 600, ("train.epochs=5", "train.learning_rate=1e-3")


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
    began = time.monotonic()
    shop, data, run = folder / "shop", folder / "data", folder / "run"
    stdout.rule("1. A sample shop in English, Spanish and Japanese")
    if not (shop / schema.OFFICIAL_EXAMPLES_FILE).is_file():
        _call("sample", shop, "--products", PRODUCTS, "--queries", QUERIES, "--seed", seed)
    stdout.rule("2. Prepare: check, clean, split")
    if not data.is_dir():
        _call("prepare", shop, data)
    stdout.rule("3. Train the tiny recipe from nothing")
    settings = (f"--set={setting}" for setting in (*FASTER, f"train.seed={seed}"))
    _call("train", "tiny", "--data", data, "--out", run, "--resume", *settings)
    stdout.rule("4. Evaluate on queries it has never seen")
    _call("evaluate", run, "--data", data)
    stdout.rule("5. Rank the candidates of three queries")
    _rank_three(run, data)
    stdout.rule(f"Done in {time.monotonic() - began:.0f} s")
    say(f"  {run / 'report.html'}  the figures as a page, with curves, calibration and the surest mistakes")
    say(f"  {run / 'scored.parquet'}  every test pair with its probabilities")
    say(f"  {run / 'model'}  the trained model: all that scoring needs")
    say(f'Try: zhichun rank {run} "red running shoes" --products {data}')
    say(f"See it work: zhichun serve {run} --products {data}, then open http://localhost:8080/")


def _call(*arguments: object) -> None:
    """Run a command as a user would, and show it."""
    words = list(map(str, arguments))
    say(f"$ zhichun {shlex.join(words)}")
    app(words, standalone_mode=False)


def _rank_three(run: Path, data: Path) -> None:
    """Show one test query of each locale, the one with most judged products of all four kinds."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from zhichun.cli.tables import ranking_table
    from zhichun.data.dataset import Dataset
    from zhichun.score.rank import rank as rank_products
    from zhichun.score.scorer import Scorer

    scorer, examples = Scorer.load(run), Dataset.open(data).examples
    tested = examples.filter(pc.equal(examples.column(schema.SPLIT), schema.TEST)).to_pylist()
    products = pq.read_table(data / schema.PRODUCTS_FILE)
    for locale in schema.LOCALES:
        judged_of: dict[str, dict[str, str]] = {}
        for row in tested:
            if row[schema.LOCALE] == locale:
                judged_of.setdefault(row[schema.QUERY], {})[row[schema.PRODUCT_ID]] = row[schema.LABEL]
        query = max(judged_of, key=lambda name: (len(set(judged_of[name].values())), -abs(len(judged_of[name]) - 12)))
        is_judged = pc.is_in(products.column(schema.PRODUCT_ID), pa.array(list(judged_of[query]), pa.string()))
        ranked = rank_products(scorer, query, products.filter(is_judged), locale)
        stdout.print(ranking_table(f"{query} ({locale})", ranked[:10], scorer.task.classes, judged_of[query]))
