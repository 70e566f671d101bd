"""What an index costs in quality: states by size and precision, and the first stage's recall of the whole catalogue.

    python benchmarks/index_quality.py RUN [RUN...] --data DATASET [--queries 50]

Each RUN is a finished training with `model.interaction=Split`, DATASET a dataset folder (`zhichun prepare`) with judged
pairs of a test split. The run itself is the reference: an index in each precision is held against its scores, labels,
nDCG and micro-F1. Then test queries are put against all products of their locale, by the model over the whole catalogue
and by the first stage (`score.index.scorer`), beside BM25: the share of the model's best ten that is among the first
500, and what both take. Writes ``benchmarks/results/index_quality.json``.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from machine import circumstances

from zhichun.core import schema
from zhichun.core.files import write_json
from zhichun.core.tasks import Prediction
from zhichun.data.dataset import Dataset, read_parquet
from zhichun.data.feature_store import open_pairs
from zhichun.measure.evaluate import rows_of
from zhichun.metrics.figures import measure
from zhichun.score.index.build import build_index
from zhichun.score.index.scorer import IndexScorer, Nearest
from zhichun.score.index.store import IndexConfig, States
from zhichun.score.scorer import Scorer
from zhichun.text.bm25 import FirstStage, read_documents
from zhichun.text.pairs import PairTexts

HERE = Path(__file__).parent
PRECISIONS = ("fp32", "fp16", "int8")
BEST, FIRST = 10, 500
FIGURES = ("ndcg", "micro_f1", "macro_f1", "log_loss")


def against(found: Prediction, run: Prediction, dataset: Dataset, rows: Any) -> dict[str, float]:
    """Hold an index's predictions against those of the run."""
    figures, without = (
        measure(each, dataset.labels[rows], dataset.column(schema.QUERY_ID)[rows]) for each in (found, run)
    )
    assert found.probabilities is not None
    assert run.probabilities is not None
    same = found.probabilities.argmax(axis=1) == run.probabilities.argmax(axis=1)
    return {
        "labels_kept": float(same.mean()),
        "probabilities_differ": float(np.abs(found.probabilities - run.probabilities).max()),
        **{name: float(figures[name]) for name in FIGURES},
        **{f"{name}_minus_run": float(figures[name] - without[name]) for name in FIGURES},
    }


def by_precision(run: Path, dataset: Dataset, products: pa.Table, work: Path) -> dict[str, Any]:
    """Index the catalogue in every precision, and measure what each costs."""
    rows, scorer = rows_of(dataset, schema.TEST), Scorer.load(run, "cpu")
    expected = scorer.predict(open_pairs(dataset, scorer.featurizer, scorer.max_length), rows)
    found: dict[str, Any] = {}
    for precision in PRECISIONS:
        index = work / run.resolve().name / precision
        build_index(run, products, index, precision=precision)  # type: ignore[arg-type]
        tokens = np.concatenate([shard.lengths_R for shard in States.open(index).shards]).mean()
        prediction = IndexScorer.load(run, index, "cpu").predict_judged(dataset, rows)
        size = float(tokens * IndexConfig.load(index).bytes_per_token)
        found[precision] = {"bytes_per_product": size, **against(prediction, expected, dataset, rows)}
        print(run.name, precision, {name: round(value, 4) for name, value in found[precision].items()}, flush=True)
    return found


def first_stage(run: Path, index: Path, dataset: Dataset, products: pa.Table, count: int) -> dict[str, Any]:
    """Put test queries against the whole catalogue, with and without a first stage."""
    scorer, chance = IndexScorer.load(run, index, "cpu"), np.random.default_rng(0)
    asked = sorted(
        {
            (dataset.queries[dataset.query_row[row]].as_py(), str(dataset.column(schema.LOCALE)[row]))
            for row in rows_of(dataset, schema.TEST)
        }
    )
    chosen = [asked[place] for place in chance.permutation(len(asked))[:count]]
    recalls: dict[str, list[float]] = {"mean states": [], "BM25": []}
    seconds: dict[str, list[float]] = {"whole": [], "mean states": [], f"scoring {FIRST}": []}
    for locale in sorted({locale for _, locale in chosen}):
        local = products.filter(pc.equal(products.column(schema.LOCALE), locale))
        texts = {name: local.column(name).to_pylist() for name in schema.TEXT_COLUMNS}
        nearest, (_, documents) = Nearest.of(scorer, texts), read_documents(local, lambda *_: None)
        words = FirstStage(documents[locale])
        for query in [query for query, where in chosen if where == locale]:
            whole, took = timed_scores(scorer, (query, locale), texts, np.arange(local.num_rows))
            best = np.argsort(-whole, kind="stable")[:BEST]
            began = time.perf_counter()
            some = nearest.search(query, FIRST)
            seconds["mean states"].append(time.perf_counter() - began)
            seconds["whole"].append(took)
            seconds[f"scoring {FIRST}"].append(timed_scores(scorer, (query, locale), texts, some)[1])
            recalls["mean states"].append(float(np.isin(best, some).mean()))
            recalls["BM25"].append(float(np.isin(best, [place for place, _ in words.search(query, FIRST)]).mean()))
    found = {
        "queries": len(chosen),
        "products": products.num_rows,
        f"recall@{FIRST} of the best {BEST}": {name: float(np.mean(each)) for name, each in recalls.items()},
        "seconds": {name: float(np.median(each)) for name, each in seconds.items()},
    }
    print(run.name, found, flush=True)
    return found


def timed_scores(
    scorer: IndexScorer, asked: tuple[str, str], texts: dict[str, list[str]], rows: Any
) -> tuple[Any, float]:
    """Score one query against some products; gives the scores and the seconds, without finding the products."""
    columns = {name: [column[row] for row in rows.tolist()] for name, column in texts.items()}
    pairs = scorer.read(PairTexts([asked[0]] * len(rows), columns, [asked[1]] * len(rows)))
    began = time.perf_counter()
    return scorer.predict(pairs).score, time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--work", type=Path, default=HERE / "work" / "index_quality")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "index_quality.json")
    arguments = parser.parse_args()
    dataset, products = Dataset.open(arguments.data), read_parquet(arguments.data / schema.PRODUCTS_FILE)
    runs = {}
    for run in arguments.runs:
        precisions = by_precision(run, dataset, products, arguments.work)
        index = arguments.work / run.resolve().name / "fp16"
        runs[run.name] = {
            "state": IndexConfig.load(index).size,
            "precisions": precisions,
            "first_stage": first_stage(run, index, dataset, products, arguments.queries),
        }
    result = {
        "what": "an index: size, precision and what they cost; and its first stage over the whole catalogue",
        "command": f"python benchmarks/index_quality.py {' '.join(runs)} --data DATASET --queries {arguments.queries}",
        **circumstances("zhichun", "torch", "numpy"),
        "runs": runs,
    }
    write_json(arguments.out, result)


if __name__ == "__main__":
    main()
