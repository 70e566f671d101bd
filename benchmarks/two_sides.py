"""Two recipes on the sample shop, trained with three seeds each and compared on test pairs without wrong labels.

A run that is in the work folder already is not trained again. Not a script: `tiny_start.py` and `soft_labels.py` are.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from machine import circumstances

from zhichun.core import schema
from zhichun.data.prepare.prepare import prepare
from zhichun.data.sample_shop import write_sample_shop
from zhichun.fit.recipe import Recipe
from zhichun.fit.train import train
from zhichun.measure.evaluate import evaluate
from zhichun.metrics import Judged, MicroF1, label_codes, nDCG, paired_bootstrap

SEEDS = (0, 1, 2)
SHOP = {"products": 2000, "queries": 600, "seed": 0}


def shop_data(work: Path, *, folds: int = 5) -> Path:
    """Make the sample shop and its dataset folder, unless they are there."""
    if not (work / "data").is_dir():
        write_sample_shop(work / "shop", **SHOP, overwrite=True)
        prepare(work / "shop", work / "data", folds=folds)
    return work / "data"


def compare_sides(work: Path, base: Recipe, sides: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Train both sides and compare them: the first minus the second, paired by query.

    Parameters
    ----------
    work
        Where data and runs are kept.
    base
        What both sides have in common.
    sides
        Two names, each with its settings on top of the base.
    """
    data = shop_data(work)
    judged = {
        side: [scored(work / f"{side}-{seed}", data, base, [*settings, f"train.seed={seed}"]) for seed in SEEDS]
        for side, settings in sides.items()
    }
    first, second = sides
    one = judged[first][0]
    return {
        **circumstances("zhichun", "torch", "transformers"),
        "data": {**SHOP, "test_pairs": len(one.labels), "test_queries": len(one.queries)},
        "seeds": list(SEEDS),
        "baselines": {"always_exact": MicroF1()(one.always("E")), "random_order": nDCG()(one.in_random_order())},
        **{side: figures(runs) for side, runs in judged.items()},
        "difference": difference(judged[first], judged[second]),
    }


def figures(runs: Sequence[Judged]) -> dict[str, list[float]]:
    """Give the figures of each run of a side."""
    return {"micro_f1": [MicroF1()(run) for run in runs], "ndcg": [nDCG()(run) for run in runs]}


def difference(first: Sequence[Judged], second: Sequence[Judged]) -> dict[str, dict[str, float]]:
    """Hold the runs of one side against those of another on the same pairs, by what each query and pair is on average.

    Parameters
    ----------
    first, second
        Runs of each side.
    """
    ndcg = [np.mean([nDCG().per_query(run)[1] for run in runs], axis=0) for runs in (first, second)]
    right = [np.mean([MicroF1().per_pair(run) for run in runs], axis=0) for runs in (first, second)]
    found = {
        "ndcg": paired_bootstrap(*ndcg),
        "micro_f1": paired_bootstrap(*right, query_ids=first[0].query_ids),
    }
    return {name: {"mean": of.mean, "low": of.low, "high": of.high, "p": of.p} for name, of in found.items()}


def scored(run: Path, data: Path, base: Recipe, settings: Sequence[str]) -> Judged:
    """Train a recipe, unless the run is there, and score the test pairs."""
    train(base.with_settings(settings), data, run, resume=True)
    return on_test(run, data)


def on_test(run: Path, data: Path) -> Judged:
    """Score the test pairs of a dataset with a run."""
    evaluate(run, data, shown=False)
    table = pq.read_table(run / "scored.parquet")
    return Judged(
        table[schema.QUERY_ID].to_numpy(),
        label_codes(table[schema.LABEL].to_pylist()),
        scores=table["gain"].to_numpy().astype(np.float64),
        predictions=label_codes(table["label"].to_pylist()),
    )
