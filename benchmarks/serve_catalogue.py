"""`serve_latency.py --products`: a server with an index, beside the plain endpoint. Not a script."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from esci_arguments import apart
from machine import circumstances
from score_catalogue import untrained
from score_cpu import OFF, PLAIN, as_cross_encoder
from serve_load import fresh, measured
from served import serving

from zhichun.core import schema
from zhichun.data.dataset import Dataset, read_parquet
from zhichun.data.prepare.prepare import prepare
from zhichun.fit.recipes.kdd2022 import task2
from zhichun.score.export.export_run import export
from zhichun.score.index.build import build_index

HERE = Path(__file__).parent
THEIRS = "sentence-transformers"
SPLIT = '{"kind": "Split"}'
INDEXED = ("torch", "onnx", "openvino")
MAX_LENGTH = 256
GOAL = {"clients": 8, "times": 20.0}


def made(arguments: argparse.Namespace) -> tuple[Path, list[tuple[dict[str, str], str]], list[str]]:
    """Make the models and the index, or take them; gives the folder, products as ids and as texts, and queries."""
    work = apart(arguments.work / "catalogue", arguments.products, str(arguments.encoder))
    if not (work / "data").is_dir():
        prepare(arguments.products, work / "data")
    dataset = Dataset.open(work / "data")
    encoder = arguments.encoder or "sentence-transformers/all-MiniLM-L6-v2"
    recipe = task2().with_settings([f"model.encoder={encoder}", f"model.max_length={MAX_LENGTH}", *OFF, *PLAIN])
    trained = untrained(recipe, dataset, work / "full")
    if not (work / "cross_encoder").is_dir():
        as_cross_encoder(trained, recipe, work / "cross_encoder")
    untrained(recipe.with_settings([f"model.interaction={SPLIT}"]), dataset, work / "split")
    table = read_parquet(work / "data" / schema.PRODUCTS_FILE)
    build_index(work / "split", table, work / "index")
    if not (work / "export").is_dir():
        export(work / "split", INDEXED[1:], out=work / "export", data=work / "data")
    fields = [schema.COLUMN_OF[field] for field in recipe.model.fields]
    rows = table.to_pylist()
    texts = [" ".join(filter(None, (row[name] for name in fields))) for row in rows]
    named = [{"id": row[schema.PRODUCT_ID], "locale": row[schema.LOCALE]} for row in rows]
    return work, list(zip(named, texts, strict=True)), dataset.queries.to_pylist()


def commands_of(work: Path, engines: Sequence[str]) -> dict[str, list[str]]:
    """Say how each system is served."""
    commands = {THEIRS: [str(HERE / "plain_endpoint.py"), str(work / "cross_encoder"), "PORT", str(MAX_LENGTH)]}
    for engine in engines:
        folder = work / ("split" if engine == "torch" else "export")
        commands[engine] = ["-m", "zhichun", "serve", str(folder), "--products", str(work / "index")]
        commands[engine] += ["--engine", engine, "--port", "PORT", "--timeout", "300"]
    return commands


def compare_catalogue(arguments: argparse.Namespace) -> dict[str, Any]:
    """Serve by every system in turn; gives the result."""
    engines = [engine for engine in arguments.engines if engine in INDEXED]
    work, products, queries = made(arguments)
    chance = np.random.default_rng(0)
    drawn = chance.integers(len(products), size=(4096, arguments.pairs))

    def body(number: int, *, by_id: bool) -> bytes:
        some = [products[place] for place in drawn[number % len(drawn)].tolist()]
        query = f"{queries[number % len(queries)]} {number}"  # which nobody has asked before
        if by_id:
            return json.dumps({"query": query, "documents": [named for named, _ in some]}).encode()
        return json.dumps({"query": query, "texts": [text for _, text in some]}).encode()

    systems: dict[str, list[dict[str, Any]]] = {}
    for system, words in commands_of(work, engines).items():
        print(system, flush=True)
        theirs = system == THEIRS
        path = "/rerank" if theirs else "/v1/rerank"
        with serving([sys.executable, *words]) as server:
            numbers = fresh()
            ask = (server, path, lambda number, theirs=theirs: body(number, by_id=not theirs), numbers)
            measured(*ask, 1, 0 if theirs else 2.0, arguments.pairs)
            systems[system] = cells = []
            for clients in arguments.clients:
                cells.append(measured(*ask, clients, arguments.seconds, arguments.pairs))
                rate = cells[-1]["requests_per_second"]
                print(f"  {clients} clients: {rate:.2f} requests/s, p95 {cells[-1]['p95'] or 0:.2f} s", flush=True)
    for cells in systems.values():
        for cell, beside in zip(cells, systems[THEIRS], strict=True):
            cell["times_throughput"] = cell["requests_per_second"] / beside["requests_per_second"]
    return {
        "what": "a server with an index of the catalogue, beside a plain FastAPI endpoint around a CrossEncoder",
        "command": f"python benchmarks/serve_latency.py --products ESCI_FOLDER --engines {' '.join(engines)}",
        **circumstances("zhichun", "torch", "transformers", THEIRS, "onnxruntime", "openvino", "fastapi", "uvicorn"),
        "encoder": Path(arguments.encoder).name if arguments.encoder else "sentence-transformers/all-MiniLM-L6-v2",
        "interaction": json.loads(SPLIT),
        "products": len(products),
        "pairs_per_request": arguments.pairs,
        "max_length": MAX_LENGTH,
        "seconds": arguments.seconds,
        "goal": GOAL,
        "systems": systems,
    }
