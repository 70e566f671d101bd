"""The whole way with the public names: a shop, a dataset folder, a run, its figures, scores of one's own products.

Run ``python examples/from_python.py FOLDER``; it leaves everything in FOLDER and takes some minutes.
"""

import argparse
from pathlib import Path

import pyarrow.parquet as pq

from zhichun import Judged, Scorer, evaluate, load_recipe, nDCG, prepare, write_sample_shop
from zhichun.fit.train import train
from zhichun.metrics import label_codes


def main(folder: Path, products: int = 2000, queries: int = 600, settings: tuple[str, ...] = ()) -> float:
    """Make a shop in ``folder``, train on it, measure; gives nDCG@10 of the test queries."""
    shop, data, run = folder / "shop", folder / "data", folder / "run"
    write_sample_shop(shop, products=products, queries=queries)
    manifest = prepare(shop, data)
    print("pairs by label:", manifest["examples"]["by_label"])

    recipe = load_recipe("tiny").with_settings(settings)
    train(recipe, data, run)
    measured = evaluate(run, data)
    print(f"micro-F1 {measured['micro_f1']:.3f}, always Exact {measured['always_exact']['micro_f1']:.3f}")

    scorer = Scorer.load(run)
    candidates = [{"title": "Running shoes for women", "color": "Red"}, "Desk lamp"]
    prediction = scorer.score("red running shoes", candidates, locale="us")
    for product, label, score in zip(candidates, prediction.labels, prediction.score, strict=True):
        print(f"{label}  {score:.3f}  {product}")

    # Every test pair lies in scored.parquet with its probabilities: any metric can be taken of them later.
    scored = pq.read_table(run / "scored.parquet", columns=["query_id", "esci_label", "gain"])
    query_ids, labels, scores = (column.to_numpy() for column in scored.columns)
    judged = Judged(query_ids, label_codes(labels), scores=scores)
    metric = nDCG(gains="esci") @ 10
    value = metric(judged)
    print(f"{metric}: {value:.4f}, random order {metric(judged.in_random_order()):.4f}")
    queries_of, values = metric.per_query(judged)
    print(f"hardest query: {queries_of[values.argmin()]} with {values.min():.4f}")
    return value


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    main(parser.parse_args().folder)
