"""Calibration on queries that a model did not see: the error before and after, and labels at a promised precision.

    python benchmarks/calibration.py ENCODER --data chorus [--folds 2] [--only 0] [--seeds 0 1 2]

Every query is held out by one of a few models. Of the queries that a model held out, one half calibrates it and the
other is measured, then the other way round, as `zhichun calibrate` reports it; `HALVINGS` times, by other halves. The
logits of each training are kept in ``results/quality_lists``, and not made again. `chorus` and `esci` are the folders
that ``CHORUS_DATA`` and ``ESCI_DATA`` name.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is there; threads share cores with others

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from esci_arguments import HERE
from list_cells import Bench, Cell
from list_rows import SHARED, Row
from machine import circumstances, command_as_given

from zhichun.core import schema
from zhichun.core.files import write_json
from zhichun.core.tasks import softmax
from zhichun.fit.calibrate import METRICS, cross_fitted, label_figures
from zhichun.fit.recipes.kdd2022 import baseline
from zhichun.metrics import Judged, label_codes
from zhichun.metrics.significance import Interval, drawn_values

HALVINGS = 5
PROMISED = 0.9
# The encoder alone: thousands of pairs are few for the weights of trigrams and ids.
ROW = Row(
    "ours, plain encoder", "ours", tuple(f"model.{part}=null" for part in ("trigrams", "country", "brand", "color"))
)


def halved(bench: Bench, cell: Cell, halving: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Give of the pairs that a cell left out their places, both probabilities, and which labels are given."""
    place_P, logits_PC = bench.left_out(cell.fold), bench.logits(cell).astype(np.float64)
    queries, query_P = np.unique(query_ids(bench)[place_P], return_inverse=True)
    half_Q = np.random.default_rng(halving).permutation(len(queries))
    _, after_PC, given_P = cross_fitted(logits_PC, labels(bench)[place_P], half_Q[query_P], PROMISED)
    return place_P, softmax(logits_PC), after_PC, given_P


def query_ids(bench: Bench) -> np.ndarray:
    return bench.judged.column(schema.QUERY_ID).to_numpy()


def labels(bench: Bench) -> np.ndarray:
    return label_codes(bench.judged.column(schema.LABEL).to_pylist())


def measured(bench: Bench, seeds: list[int]) -> dict[str, Any]:
    """Measure all pairs, each as the model that did not see its query calibrated by the other half; the mean of all."""
    before, after, promises = [], [], []
    there_P = np.isin(bench.fold_P, bench.folds)
    for seed in seeds:
        for halving in range(HALVINGS):
            shape = bench.judged.num_rows, len(schema.LABELS)
            plain_PC, calibrated_PC, given_P = np.zeros(shape), np.zeros(shape), np.zeros(shape[0], bool)
            for fold in bench.folds:
                place_P, *found = halved(bench, Cell(ROW, fold, None, seed), halving)
                plain_PC[place_P], calibrated_PC[place_P], given_P[place_P] = found
            for kept, said_PC in ((before, plain_PC), (after, calibrated_PC)):
                kept.append(Judged(query_ids(bench), labels(bench), probabilities=said_PC).select(there_P))
            promises.append(dict(zip(schema.LABELS, label_figures(after[-1], given_P[there_P]), strict=True)))
    locale_P = np.asarray(bench.judged.column(schema.LOCALE).to_pylist())[there_P]
    parts = {"all": np.ones(len(locale_P), bool), **{name: locale_P == name for name in np.unique(locale_P).tolist()}}
    return {
        "figures": {
            name: {
                when: mean_of([each.select(mask) for each in kept])
                for when, kept in (("before", before), ("after", after))
            }
            for name, mask in parts.items()
        },
        "promised": PROMISED,
        "labels": promises,
        "kept": {name: kept_of(promises, name) for name in schema.LABELS},
    }


def mean_of(judged: list[Judged]) -> dict[str, Any]:
    """Give the mean of each figure over seeds and halvings, with the interval that draws of the queries give it."""
    values_MF, drawn_MSF = drawn_values(METRICS, *judged, draws=1000, seed=0)
    found = Interval.of(values_MF.mean(axis=0), drawn_MSF.mean(axis=0))
    return {metric.name: asdict(each) for metric, each in zip(METRICS, found, strict=True)}


def kept_of(promises: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """Say how often a label was given at all, and of these cases how often, and how well, the promise was kept."""
    values = [each[name]["precision"]["value"] for each in promises if each[name]["precision"]]
    given = float(np.mean([each[name]["given"] for each in promises]))
    found = {"cases": len(promises), "given_in": len(values), "given": given}
    if not values:
        return found
    return {**found, "mean": float(np.mean(values)), "least": min(values), "kept": sum(v >= PROMISED for v in values)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder", help="name or folder of a transformers encoder of the kind of BERT or XLM-R")
    parser.add_argument("--name", help="what the results call it, if not as it is given")
    parser.add_argument("--data", required=True, help="chorus, esci, or a folder in the official layout")
    parser.add_argument("--folds", type=int, default=2)
    parser.add_argument("--only", type=int, metavar="FOLD", help="measure this fold alone, from 0")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the recipe")
    parser.add_argument("--work", type=Path, default=HERE / "work")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    given = parser.parse_args()
    bench = Bench(
        name=Path(given.data).name,
        source=Path(os.environ.get(f"{given.data.upper()}_DATA", given.data)),
        recipe=baseline().with_settings([f"model.encoder={given.encoder}", *SHARED, *given.set]),
        encoder=given.name or given.encoder,
        work=given.work / "quality_lists",
        kept=given.results / "quality_lists",
        parts=given.folds,
        only=given.only,
    )
    bench.run([Cell(ROW, fold, None, seed) for seed in given.seeds for fold in bench.folds])
    found = {
        "what": "calibration error on held-out queries, and precision of the labels that are given",
        "command": command_as_given("calibration.py"),
        **circumstances("zhichun", "torch", "numpy"),
        "encoder": bench.encoder,
        "data": bench.name,
        "seeds": given.seeds,
        "folds": given.folds,
        "settings": [*SHARED, *ROW.settings, *given.set],
        "halvings": HALVINGS,
        **measured(bench, given.seeds),
    }
    write_json(given.results / f"calibration_{bench.name}.json", found)
    sys.stdout.write(f"{found['figures']}\n{found['kept']}\n")


if __name__ == "__main__":
    main()
