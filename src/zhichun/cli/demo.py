"""The whole way once: a sample shop, trained and measured in a few minutes on two cores."""

import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console

from zhichun.cli.tables import figures_table, ranking_table
from zhichun.core import schema
from zhichun.core.console import Stages
from zhichun.data.dataset.dataset import Dataset
from zhichun.data.prepare.prepare import prepare
from zhichun.data.sample_shop import write_sample_shop
from zhichun.fit.recipe import load_recipe
from zhichun.fit.train import train
from zhichun.measure.evaluate import evaluate
from zhichun.measure.report.dataset_page import PAGE_FILE, write_summary_page
from zhichun.score.rank import rank
from zhichun.score.scorer import Scorer

PRODUCTS, QUERIES = 2000, 600
# Half the recipe's steps, at twice its rate: the demo is a first look.
SHORT = ("train.epochs=3", "train.learning_rate=1e-3")


def run_demo(folder: Path, seed: int, console: Console) -> None:
    """Make a shop, prepare it, train the tiny recipe, evaluate it, and rank for three queries."""
    began = time.monotonic()
    shop, data, run = folder / "shop", folder / "data", folder / "run"
    console.rule("1. A sample shop in English, Spanish and Japanese")
    if not (shop / schema.OFFICIAL_EXAMPLES_FILE).is_file():
        write_sample_shop(shop, products=PRODUCTS, queries=QUERIES, seed=seed)
    console.rule("2. Prepare: check, clean, split")
    if not data.is_dir():
        with Stages() as stages:
            manifest = prepare(shop, data, progress=stages, finish=write_summary_page)
        console.print(f"{manifest['examples']['kept']:,} judged pairs, {manifest['products']['kept']:,} products")
    console.rule("3. Train the tiny recipe from nothing")
    recipe = load_recipe("tiny").with_settings([*SHORT, f"train.seed={seed}"])
    train(recipe, data, run, resume=True)
    console.rule("4. Evaluate on queries it has never seen")
    measured = evaluate(run, data)
    console.print(figures_table(measured))
    console.print(
        f"micro-F1 {measured['micro_f1']:.3f} (always Exact: {measured['always_exact']['micro_f1']:.3f}), "
        f"nDCG {measured['ndcg']:.3f} (random order: {measured['random_order']['ndcg']:.3f})"
    )
    console.rule("5. Rank the candidates of three queries")
    _rank_three(Scorer.load(run), Dataset.open(data), console)
    console.rule(f"Done in {time.monotonic() - began:.0f} s")
    for path, what in (
        (shop, "the shop, and the true labels of its pairs"),
        (data, "the dataset folder"),
        (data / PAGE_FILE, "what the data are like, as a page"),
        (run / "model", "the trained model: all that scoring needs"),
        (run / "metrics.json", "the figures above"),
        (run / "report.html", "the same as a page, with curves, calibration and the surest mistakes"),
        (run / "scored.parquet", "every test pair with its probabilities"),
        (run / "recipe.json", f"repeats the run: zhichun train {run / 'recipe.json'} --data {data} --out OTHER"),
    ):
        console.print(f"  {path}  {what}", markup=False, highlight=False, soft_wrap=True)
    for hint in (
        f'Try: zhichun rank {run} "red running shoes" --products {data}',
        f"See it work: zhichun serve {run} --products {data}, then open http://localhost:8080/",
    ):
        console.print(hint, markup=False, highlight=False, soft_wrap=True)


def _rank_three(scorer: Scorer, dataset: Dataset, console: Console) -> None:
    """Show one test query of each locale, the one with most judged products of all four kinds."""
    is_test = pc.equal(dataset.examples.column(schema.SPLIT), "test")
    examples = dataset.examples.filter(is_test).to_pylist()
    products = pq.read_table(dataset.folder / schema.PRODUCTS_FILE)
    for locale in schema.LOCALES:
        judged_of: dict[str, dict[str, str]] = {}
        for row in examples:
            if row[schema.LOCALE] == locale:
                judged_of.setdefault(row[schema.QUERY], {})[row[schema.PRODUCT_ID]] = row[schema.LABEL]
        query = max(judged_of, key=lambda name: (len(set(judged_of[name].values())), -abs(len(judged_of[name]) - 12)))
        ids = pa.array(list(judged_of[query]), pa.string())
        candidates = products.filter(pc.is_in(products.column(schema.PRODUCT_ID), ids))
        ranked = rank(scorer, query, candidates, locale)
        console.print(
            ranking_table(
                f"{query} ({locale})", ranked[:10], scorer.task.classes, judged_of[query], width=console.width
            )
        )
