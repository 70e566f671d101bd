"""The command that answers other programs: serve."""

from pathlib import Path
from typing import Annotated

import typer

from zhichun.cli.options import BadRowsOption, EngineOption, ModelArgument, app, mapping, option, say


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
    from zhichun.serve.http.keys import Keys
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
