"""The whole way once: a sample shop, trained and measured in a few minutes on two cores."""

import shlex
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from zhichun.cli.options import app, say, stdout
from zhichun.cli.tables import ranking_table
from zhichun.core import schema
from zhichun.data.dataset import Dataset
from zhichun.score.rank import rank
from zhichun.score.scorer import Scorer

PRODUCTS, QUERIES = 2000, 600
# Half the recipe's steps, at twice its rate: the demo is a first look.
SHORT = ("train.epochs=3", "train.learning_rate=1e-3")


def run_demo(folder: Path, seed: int) -> None:
    """Make a shop, prepare it, train the tiny recipe, evaluate it, and rank for three queries."""
    began = time.monotonic()
    shop, data, run = folder / "shop", folder / "data", folder / "run"
    stdout.rule("1. A sample shop in English, Spanish and Japanese")
    if not (shop / schema.OFFICIAL_EXAMPLES_FILE).is_file():
        _call("sample", shop, "--products", PRODUCTS, "--queries", QUERIES, "--seed", seed)
    stdout.rule("2. Prepare: check, clean, split")
    if not data.is_dir():
        _call("prepare", shop, data)
    stdout.rule("3. Train the tiny recipe from nothing")
    settings = (f"--set={setting}" for setting in (*SHORT, f"train.seed={seed}"))
    _call("train", "tiny", "--data", data, "--out", run, "--resume", *settings)
    stdout.rule("4. Evaluate on queries it has never seen")
    _call("evaluate", run, "--data", data)
    stdout.rule("5. Rank the candidates of three queries")
    _rank_three(Scorer.load(run), Dataset.open(data))
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


def _rank_three(scorer: Scorer, dataset: Dataset) -> None:
    """Show one test query of each locale, the one with most judged products of all four kinds."""
    examples = dataset.examples.filter(pc.equal(dataset.examples.column(schema.SPLIT), "test")).to_pylist()
    products = pq.read_table(dataset.folder / schema.PRODUCTS_FILE)
    for locale in schema.LOCALES:
        judged_of: dict[str, dict[str, str]] = {}
        for row in examples:
            if row[schema.LOCALE] == locale:
                judged_of.setdefault(row[schema.QUERY], {})[row[schema.PRODUCT_ID]] = row[schema.LABEL]
        query = max(judged_of, key=lambda name: (len(set(judged_of[name].values())), -abs(len(judged_of[name]) - 12)))
        ids = pa.array(list(judged_of[query]), pa.string())
        ranked = rank(scorer, query, products.filter(pc.is_in(products.column(schema.PRODUCT_ID), ids)), locale)
        stdout.print(ranking_table(f"{query} ({locale})", ranked[:10], scorer.task.classes, judged_of[query]))
