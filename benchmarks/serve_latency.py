"""How fast the server answers, beside a plain FastAPI endpoint around sentence-transformers' `CrossEncoder`.

    python benchmarks/serve_latency.py [--encoder FOLDER]

Requests of 100 texts each, by 1, 8 and 32 clients at once, for the tiny shape and that of MiniLM (6 layers of 384). All
serve the same weights and get the same bodies; each server is a process of its own, and alone while it is measured.
Texts are titles of the Shopping Queries Dataset where ``ESCI_DATA`` names it and of a sample shop else, with a number
before each, so that no text comes twice and nothing that a server keeps helps. What caching gains is measured too:
requests that come again, and products named by ids of a catalogue. Writes ``benchmarks/results/serve_latency.json``.

    python benchmarks/serve_latency.py --products ESCI_FOLDER --encoder FOLDER

measures a known catalogue in place of that: whole products, named by their ids and scored from an index by a model that
reads query and product apart, beside the plain endpoint, which is given their texts. Nothing is trained, since speed
does not depend on it. Writes ``serve_catalogue.json``. Both need `pip install 'zhichun[train,onnx,serve,bench]'` and a
quiet machine.
"""

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from machine import circumstances
from serve_catalogue import INDEXED, compare_catalogue
from serve_load import Texts, environment_folder, fresh, ids_body, measured
from serve_models import SHAPES, Model, made, shop
from served import Served, serving

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.core.files import write_json
from zhichun.score.scorer import Scorer
from zhichun.text.pairs import PairTexts

HERE = Path(__file__).parent
THEIRS = "sentence-transformers"
LIBRARIES = ("zhichun", "torch", "transformers", "tokenizers", THEIRS, "onnxruntime", "openvino", "fastapi", "uvicorn")
ENGINES = ("onnx", "onnx-int8", "openvino-int8")
PAIRS, CLIENTS, SECONDS, MAX_LENGTH = 100, [1, 8, 32], 8.0, 128
# In fp32 all must compute the same, or it is not the same model that is compared.
EXACT, SAME = (THEIRS, "torch", "onnx"), 1e-4
AGAIN = 4  # requests that come again and again
GOAL = {"clients": 8, "times": 4.0, "precision": "int8"}


def command_of(system: str, model: Model, data: Path | None, max_length: int) -> list[str]:
    """Say how a system is served."""
    if system == THEIRS:
        return [sys.executable, str(HERE / "plain_endpoint.py"), str(model.theirs), "PORT", str(max_length)]
    folder = model.run if system.startswith("torch") else model.exported
    command = [sys.executable, "-m", "zhichun", "serve", str(folder), "--port", "PORT", "--engine", system]
    command += ["--timeout", "300"]  # a plain endpoint waits for ever, too
    return command + (["--products", str(data)] if data else [])


def fresh_cells(server: Served, texts: Texts, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure requests that share nothing, at each number of clients."""
    numbers = fresh()

    def body(number: int) -> bytes:
        return texts.body(number, arguments.pairs)

    measured(server, "/rerank", body, numbers, 1, 0, arguments.pairs)
    cells = []
    for clients in arguments.clients:
        cell = measured(server, "/rerank", body, numbers, clients, arguments.seconds, arguments.pairs)
        print(f"  {clients} clients: {cell['pairs_per_second']:.0f} pairs/s, p95 {cell['p95'] or 0:.2f} s", flush=True)
        cells.append(cell)
    return cells


def kept_cells(server: Served, texts: Texts, data: Path | None, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure what caching gains: the same requests again, and ids of products where there is a catalogue."""
    seconds, pairs, clients = arguments.seconds, arguments.pairs, GOAL["clients"]
    again = [texts.body(number, pairs) for number in range(AGAIN)]

    def repeated(number: int) -> bytes:
        return again[number % AGAIN]

    asked = {"repeated": ("/rerank", repeated)}
    if data is not None:
        columns = pq.read_table(data / schema.PRODUCTS_FILE, columns=[schema.PRODUCT_ID, schema.LOCALE]).to_pylist()
        products = [{"id": row[schema.PRODUCT_ID], "locale": row[schema.LOCALE]} for row in columns]
        asked["by_id"] = ("/v1/rerank", ids_body(products, texts, pairs))
    found = {}
    for name, (path, body) in asked.items():
        numbers = fresh()
        measured(server, path, body, numbers, 1, min(seconds, 2.0), pairs)
        found[name] = measured(server, path, body, numbers, clients, seconds, pairs)
        print(f"  {name}: {found[name]['pairs_per_second']:.0f} pairs/s", flush=True)
    return found


def compare(name: str, model: Model, texts: Texts, data: Path | None, arguments: argparse.Namespace) -> dict[str, Any]:
    """Serve one model by every system in turn."""
    query, documents = texts.request(len(texts.titles), arguments.pairs)
    prediction = Scorer.load(model.run, device="cpu").score(query, documents)
    systems: dict[str, Any] = {}
    for system in (THEIRS, *arguments.engines):
        print(f"{name}, {system}", flush=True)
        ours = system != THEIRS
        with serving(command_of(system, model, data if ours else None, arguments.max_length)) as server:
            scores = server.rerank(query, documents)
            differ = max(abs(scores[place] - score) for place, score in enumerate(prediction.score.tolist()))
            if system in EXACT and differ > SAME:
                raise UserError(f"{system} gives other scores than torch does, by {differ:.2g}: nothing to compare.")
            systems[system] = {
                "scores_differ": differ,
                "fresh": fresh_cells(server, texts, arguments),
                **(kept_cells(server, texts, data, arguments) if ours else {}),
                **server.held(),
            }
    for found in systems.values():
        for cell, beside in zip(found["fresh"], systems[THEIRS]["fresh"], strict=True):
            cell["times_throughput"] = cell["pairs_per_second"] / beside["pairs_per_second"]
    assert prediction.labels is not None
    labels, counts = np.unique(prediction.labels, return_counts=True)
    return {
        "mean_tokens": mean_tokens(model, texts, arguments),
        "labels": dict(zip(labels.tolist(), counts.tolist(), strict=True)),
        "systems": systems,
    }


def mean_tokens(model: Model, texts: Texts, arguments: argparse.Namespace) -> float:
    """Count the tokens that are read of a pair, over some requests."""
    scorer = Scorer.load(model.run, device="cpu")
    asked = [texts.request(number, arguments.pairs) for number in range(4)]
    queries = [query for query, documents in asked for _ in documents]
    titles: list[str | None] = [text for _, documents in asked for text in documents]
    columns: dict[str, list[str | None]] = {name: [None] * len(titles) for name in schema.TEXT_COLUMNS}
    pairs = scorer.read(PairTexts(queries, {**columns, schema.TITLE: titles}, ["us"] * len(titles)))
    return float(pairs.lengths.mean())


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", help="for minilm, name or folder of an encoder; random weights if not given")
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=SHAPES)
    parser.add_argument("--engines", nargs="+", choices=("torch", "openvino", *ENGINES))
    parser.add_argument("--clients", nargs="+", type=int, default=CLIENTS)
    parser.add_argument("--pairs", type=int, default=PAIRS, help="texts of a request")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="in which clients begin requests, each time")
    parser.add_argument("--tokens", dest="max_length", type=int, default=MAX_LENGTH, help="that a pair is cut to")
    parser.add_argument("--products", type=Path, help="measure an index: a folder of the Shopping Queries Dataset")
    parser.add_argument("--work", type=Path, default=HERE / "work" / "serve", help="where the models are kept")
    parser.add_argument("--out", type=Path, help="default: serve_latency.json or serve_catalogue.json in results")
    arguments = parser.parse_args()
    name = "serve_catalogue.json" if arguments.products else "serve_latency.json"
    arguments.out = arguments.out or HERE / "results" / name
    arguments.engines = arguments.engines or list(INDEXED if arguments.products else ENGINES)
    return arguments


def main() -> None:
    arguments = parse_arguments()
    if arguments.products:
        return write_json(arguments.out, compare_catalogue(arguments))
    data = shop(arguments.work)
    texts = Texts.of(environment_folder("ESCI_DATA"), data)
    with_catalogue = data if importlib.util.find_spec("zhichun.serve.catalogue_search") else None
    models = {
        name: made(name, arguments.work, data, arguments.max_length, arguments.encoder if name == "minilm" else None)
        for name in arguments.shapes
    }
    measured_shapes = {name: compare(name, model, texts, with_catalogue, arguments) for name, model in models.items()}
    options = [
        f"--{name} {' '.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value, default in (
            ("shapes", arguments.shapes, list(SHAPES)),
            ("engines", arguments.engines, list(ENGINES)),
            ("clients", arguments.clients, CLIENTS),
            ("pairs", arguments.pairs, PAIRS),
            ("seconds", arguments.seconds, SECONDS),
            ("tokens", arguments.max_length, MAX_LENGTH),
        )
        if value != default
    ]
    encoder = [f"--encoder {Path(arguments.encoder).name}"] if arguments.encoder else []
    result = {
        "what": "the server, beside a plain FastAPI endpoint around sentence-transformers' CrossEncoder",
        "command": " ".join(["python benchmarks/serve_latency.py", *encoder, *options]),
        **circumstances(
            *("zhichun", "torch", "transformers", "tokenizers", THEIRS, "onnxruntime", "openvino", "fastapi", "uvicorn")
        ),
        "encoder": Path(arguments.encoder).name if arguments.encoder else "random weights",
        "texts": texts.source,
        "pairs_per_request": arguments.pairs,
        "max_length": arguments.max_length,
        "seconds": arguments.seconds,
        "clients_by": "threads with kept connections in one process; client_cores says what it used of a core",
        "by_id": "measured" if with_catalogue else "not measured: this version reads no catalogue",
        "goal": GOAL,
        "shapes": measured_shapes,
    }
    return write_json(arguments.out, result)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
