"""How often `zhichun compare` fails without a reason, and how often it finds a segment that a change hurts.

    OMP_NUM_THREADS=1 python benchmarks/compare_gates.py [--draws 1000]

The sample shop's test queries, three locales, and two systems that rank by the truth with noise. Without a regression
both have the same noise, drawn anew each time; the gate is `ndcg@10>=0`, overall and in every segment, corrected for
their number. With a regression, A has more noise in Spanish alone.
"""

import argparse
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from machine import circumstances, command_as_given

from zhichun.core import schema
from zhichun.core.files import write_json
from zhichun.core.tasks import gain_vector
from zhichun.data.dataset import Dataset
from zhichun.data.prepare.prepare import prepare
from zhichun.data.sample_shop import write_sample_shop
from zhichun.measure.compare import Gate, judge_gates, measure_parts
from zhichun.measure.systems import segments_of
from zhichun.metrics import Judged, nDCG

HERE = Path(__file__).parent
NOISE, WORSE = 0.6, 1.2
GATE = "ndcg@10>=0"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--work", type=Path, default=HERE / "work" / "compare_gates")
    given = parser.parse_args()
    if not (given.work / "data").is_dir():
        write_sample_shop(given.work / "shop", products=1000, queries=500, overwrite=True)
        prepare(given.work / "shop", given.work / "data", test_share=0.5)
    dataset, began = Dataset.open(given.work / "data"), time.monotonic()
    rows = np.flatnonzero(dataset.column(schema.ORIGIN) == schema.JUDGED)
    masks = segments_of(dataset, rows)
    labels, queries = dataset.labels[rows], dataset.query_row[rows].astype(np.int64)
    in_spain = dataset.column(schema.LOCALE)[rows] == "es"
    gate = Gate.read(GATE)
    counted: dict[str, Counter[str]] = {"none": Counter(), "es": Counter()}
    for draw in range(given.draws):
        noise = np.random.default_rng(draw).normal(size=(2, len(rows)))
        for planted, failed in counted.items():
            scale = np.where(in_spain & (planted == "es"), WORSE, NOISE)
            scores = gain_vector()[labels] + noise * [scale, np.full(len(rows), NOISE)]
            a, b = (Judged(queries, labels, scores=of) for of in scores)
            parts = measure_parts([nDCG() @ 10], a, b, masks, draws=700, seed=draw)
            named = [each["part"] for each in judge_gates(parts, [gate]) if each["verdict"] == "fails"]
            failed.update([*named, "exit 1" if named else "exit 0"])
        if draw % 100 == 99 or draw + 1 == given.draws:
            _write(draw + 1, counted, rows, queries, masks, began)


def _write(
    draws: int,
    counted: dict[str, Counter[str]],
    rows: np.ndarray,
    queries: np.ndarray,
    masks: dict[str, Any],
    began: float,
) -> None:
    result: dict[str, Any] = {
        "what": "draws in which zhichun compare ends with status 1, and what it names",
        "command": command_as_given("compare_gates.py"),
        **circumstances("zhichun", "numpy"),
        "data": {"queries": len(np.unique(queries)), "pairs": len(rows), "segments": list(masks)},
        "gate": GATE,
        "noise": {"both": NOISE, "of A in es, where planted": WORSE},
        "draws": draws,
        "without_regression": dict(counted["none"]),
        "with_regression_of_es": dict(counted["es"]),
        "seconds": round(time.monotonic() - began),
    }
    write_json(HERE / "results" / "compare_gates.json", result)
    sys.stdout.write(f"{result}\n")


if __name__ == "__main__":
    main()
