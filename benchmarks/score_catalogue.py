"""A known catalogue: requests of one query and 100 products, scored from an index and by whole models.

Those are our engines, and sentence-transformers' `CrossEncoder.predict` at its defaults.

    python benchmarks/score_catalogue.py sentence-transformers/all-MiniLM-L6-v2 --data ESCI_FOLDER

How fast a network is does not depend on what it has learnt: the encoder gets a new head, whole and split, and nothing
beside it, so that sentence-transformers can compute the whole model too. All score the same requests in turn, from
texts, the index by finding them. How large the index is and how long it takes is measured as well. What it costs in
quality is another script's. Writes ``benchmarks/results/score_catalogue.json``. It needs `pip install
'zhichun[train,onnx,bench]'` and a quiet machine.
"""

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from esci_arguments import HERE, command, esci_parser, parse_esci, prepared, short_hash
from machine import circumstances
from score_cpu import OFF, PLAIN, THEIRS, Score, Texts, as_cross_encoder, by_ours, by_theirs

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.core.files import write_json
from zhichun.core.tasks import TASKS
from zhichun.data.dataset import Dataset, read_parquet
from zhichun.fit.recipe import Recipe
from zhichun.fit.recipes.kdd2022 import task2
from zhichun.fit.train import build_model, make_featurizer
from zhichun.model.model_folder import TrainedModel
from zhichun.score.export.export_run import export
from zhichun.score.index.build import build_index
from zhichun.score.index.scorer import IndexScorer
from zhichun.score.index.store import IndexConfig, States
from zhichun.text.pairs import PairTexts

PRECISIONS = ("fp32", "fp16", "int8")
FULL = ("torch", "openvino", "openvino-int8")
WITHOUT_TORCH = ("onnx", "openvino")
GOALS = {"sentence-transformers": 40, "our best full engine in fp32": 20}


@dataclass(frozen=True)
class Requests:
    """Queries, each with some products of its locale."""

    asked: list[Texts]

    @classmethod
    def draw(cls, dataset: Dataset, products: pa.Table, given: argparse.Namespace, recipe: Recipe) -> "Requests":
        """Draw queries of the test split, and products of the catalogue for each."""
        chance, candidates = np.random.default_rng(0), given.candidates
        test = np.flatnonzero(dataset.column(schema.SPLIT) == schema.TEST)
        asked = []
        for pair in chance.choice(test, given.requests):
            locale = dataset.column(schema.LOCALE)[pair]
            there = np.flatnonzero(pc.equal(products.column(schema.LOCALE), locale).to_numpy())
            there = there if len(there) else np.arange(products.num_rows)
            some = products.take(chance.choice(there, candidates, replace=len(there) < candidates))
            columns = {name: some.column(name).to_pylist() for name in schema.TEXT_COLUMNS}
            query = dataset.queries[dataset.query_row[pair]].as_py()
            fields = [columns[schema.COLUMN_OF[field]] for field in recipe.model.fields]
            documents = [" ".join(filter(None, texts)) for texts in zip(*fields, strict=True)]
            theirs = [[query, document] for document in documents]
            asked.append(Texts(([query] * candidates, columns, [locale] * candidates), theirs))
        return cls(asked)


def untrained(recipe: Recipe, dataset: Dataset, run: Path) -> TrainedModel:
    """Put an encoder under a new head into a run folder."""
    torch.manual_seed(0)
    featurizer, task = make_featurizer(recipe.model, dataset), TASKS[recipe.task]
    model = build_model(recipe.model, featurizer, task).eval()
    trained = TrainedModel(model, featurizer, recipe.model, task)
    if not (run / "model").is_dir():
        (run / "model").mkdir(parents=True)
        trained.save(run / "model")
        write_json(run / "recipe.json", recipe.to_json())
    return trained


def from_index(run: Path, index: Path, engine: str) -> Score:
    """Score from an index, finding the texts in it."""
    scorer = IndexScorer.load(run, index, "cpu", engine)

    def score(texts: Texts) -> Any:
        return scorer.predict(scorer.read(PairTexts(*texts.ours))).probabilities

    return score


def indexed(run: Path, catalogue: pa.Table, work: Path) -> tuple[dict[str, Path], dict[str, Any]]:
    """Index the catalogue in every precision; gives the folders, and what they took."""
    folders, figures = {}, {}
    for precision in PRECISIONS:
        folder = folders[precision] = work / f"index-{precision}"
        began = time.perf_counter()
        made = build_index(run, catalogue, folder, precision=precision)  # type: ignore[arg-type]
        seconds = time.perf_counter() - began
        lengths = np.concatenate([shard.lengths_R for shard in States.open(folder).shards])
        size = float(lengths.mean()) * IndexConfig.load(folder).bytes_per_token
        rate = made.computed / seconds if made.computed else None
        figures[precision] = {"bytes_per_product": size, "products": made.products, "products_per_second": rate}
    return folders, figures


def timed(scores: dict[str, Score], requests: Requests) -> dict[str, Any]:
    """Let all answer each request in turn; gives pairs per second and the time of a request."""
    seconds: dict[str, list[float]] = {name: [] for name in scores}
    for score in scores.values():
        score(requests.asked[0])
    for number, texts in enumerate(requests.asked, start=1):
        for name, score in scores.items():
            began = time.perf_counter()
            score(texts)
            seconds[name].append(time.perf_counter() - began)
        rates = ", ".join(f"{name} {len(texts.theirs) / each[-1]:.0f}" for name, each in seconds.items())
        print(f"{number}/{len(requests.asked)} pairs/s: {rates}", flush=True)
    candidates = len(requests.asked[0].theirs)
    return {
        name: {
            "pairs_per_second": candidates / float(np.median(each)),
            "p50_ms": 1000 * float(np.median(each)),
            "p95_ms": 1000 * float(np.quantile(each, 0.95)),
            # Of the runs that stood beside each other, since a machine is not equally fast all the time.
            "times_faster": float(np.median(np.asarray(seconds[THEIRS]) / np.asarray(each))),
        }
        for name, each in seconds.items()
    }


def parse_arguments() -> argparse.Namespace:
    parser = esci_parser(__doc__)
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--products", type=int, default=0, help="index so many products; all if not given")
    parser.add_argument("--split", default='{"kind": "Split"}', help="model.interaction of the split model, as JSON")
    parser.add_argument("--engines", nargs="+", choices=FULL, default=list(FULL), help="of the whole model")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "score_catalogue.json")
    return parse_esci(parser)


def main() -> None:
    arguments = parse_arguments()
    data, work = prepared(arguments), arguments.work / f"score_catalogue-{short_hash(arguments.split)}"
    dataset = Dataset.open(data)
    settings = [f"model.encoder={arguments.encoder}", *OFF, *PLAIN, *arguments.set]
    recipe = task2().with_settings(settings)
    split = recipe.with_settings([f"model.interaction={arguments.split}"])
    trained = untrained(recipe, dataset, work / "full")
    untrained(split, dataset, work / "split")
    formats = [engine for engine in arguments.engines if engine != "torch"]
    if formats and not (work / "export").is_dir():
        export(work / "full", formats, out=work / "export", data=data)
    catalogue = read_parquet(dataset.folder / schema.PRODUCTS_FILE).slice(0, arguments.products or None)
    folders, figures = indexed(work / "split", catalogue, work)
    scores = {THEIRS: by_theirs(as_cross_encoder(trained, recipe, work / "cross_encoder"))}
    for engine in arguments.engines:
        scores[engine] = by_ours(work / ("full" if engine == "torch" else "export"), engine, "cpu")
    for precision, folder in folders.items():
        scores[f"index, {precision}"] = from_index(work / "split", folder, "torch")
    if not (work / "split_export").is_dir():
        export(work / "split", WITHOUT_TORCH, out=work / "split_export", data=data)
    for engine in WITHOUT_TORCH:
        scores[f"index, fp16, {engine}"] = from_index(work / "split_export", folders["fp16"], engine)
    requests = Requests.draw(dataset, catalogue, arguments, recipe)
    measured = timed(scores, requests)
    in_fp32 = [measured[engine] for engine in arguments.engines if not engine.endswith("int8")]
    best = max(each["pairs_per_second"] for each in in_fp32)
    result = {
        "what": "requests of one query and many products: from an index, by our engines, by sentence-transformers",
        "command": command("score_catalogue.py", arguments, [f"--requests {arguments.requests}"]),
        "encoder": arguments.name,
        **circumstances("zhichun", "torch", "transformers", "tokenizers", THEIRS, "onnxruntime", "openvino", "numpy"),
        "interaction": vars(split.model.interaction),
        "max_length": recipe.model.max_length,
        "candidates": arguments.candidates,
        "requests": arguments.requests,
        "goals": GOALS,
        "index": figures,
        "systems": measured,
        "times_our_best_full_fp32": {
            name: figure["pairs_per_second"] / best for name, figure in measured.items() if name.startswith("index")
        },
    }
    write_json(arguments.out, result)
    for name, figure in measured.items():
        print(f"{name:24s} {figure['times_faster']:5.1f} times, p50 {figure['p50_ms']:.0f} ms")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
