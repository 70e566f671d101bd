"""What the tiny encoder's matching start is worth on the sample shop, against the usual random start.

    python benchmarks/tiny_start.py [--work FOLDER]

Both sides train the `tiny` recipe with three seeds; only `model.tiny.matching_layers` differs. The test split has no
wrong labels. A run that is in the work folder already is not trained again.
"""

import argparse
import datetime
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from machine import machine, versions

from zhichun import schema
from zhichun.data.prepare import prepare
from zhichun.data.sample_shop import write_sample_shop
from zhichun.evaluation import evaluate
from zhichun.files import write_json
from zhichun.metrics import Judged, MicroF1, label_codes, nDCG, paired_bootstrap
from zhichun.recipe import load_recipe
from zhichun.training import train

HERE = Path(__file__).parent
SEEDS = (0, 1, 2)
STARTS = {"matching": "2", "random": "null"}
SHOP = {"products": 2000, "queries": 600, "seed": 0}


def scored(work: Path, start: str, seed: int) -> Judged:
    run = work / f"{start}-{seed}"
    recipe = load_recipe("tiny").with_settings([f"model.tiny.matching_layers={STARTS[start]}", f"train.seed={seed}"])
    train(recipe, work / "data", run, resume=True)
    evaluate(run, work / "data", shown=False)
    table = pq.read_table(run / "scored.parquet")
    return Judged(
        table[schema.QUERY_ID].to_numpy(),
        label_codes(table[schema.LABEL].to_pylist()),
        scores=table["gain"].to_numpy().astype(np.float64),
        predictions=label_codes(table["label"].to_pylist()),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=HERE / "work" / "tiny_start", help="where shop and runs are kept")
    work: Path = parser.parse_args().work
    if not (work / "data").is_dir():
        write_sample_shop(work / "shop", **SHOP, overwrite=True)
        prepare(work / "shop", work / "data")
    judged = {start: [scored(work, start, seed) for seed in SEEDS] for start in STARTS}
    one = judged["matching"][0]
    ndcg = {start: np.mean([nDCG().per_query(run)[1] for run in runs], axis=0) for start, runs in judged.items()}
    right = {start: np.mean([MicroF1().per_pair(run) for run in runs], axis=0) for start, runs in judged.items()}
    differences = {
        "ndcg": paired_bootstrap(ndcg["matching"], ndcg["random"]),
        "micro_f1": paired_bootstrap(right["matching"], right["random"], query_ids=one.query_ids),
    }
    result: dict[str, Any] = {
        "what": "tiny encoder on the sample shop: matching start against random start",
        "command": "python benchmarks/tiny_start.py",
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "versions": versions("zhichun", "torch", "transformers"),
        "data": {**SHOP, "test_pairs": len(one.labels), "test_queries": len(one.queries)},
        "seeds": list(SEEDS),
        "baselines": {"always_exact": MicroF1()(one.always("E")), "random_order": nDCG()(one.in_random_order())},
        **{
            start: {"micro_f1": [MicroF1()(run) for run in runs], "ndcg": [nDCG()(run) for run in runs]}
            for start, runs in judged.items()
        },
        "difference": {
            name: {"mean": found.mean, "low": found.low, "high": found.high, "p": found.p}
            for name, found in differences.items()
        },
    }
    write_json(HERE / "results" / "tiny_start.json", result)
    sys.stdout.write(f"{result['difference']}\n{result['matching']}\n{result['random']}\n")


if __name__ == "__main__":
    main()
