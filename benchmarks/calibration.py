"""Calibration on queries that a model did not see: the error before and after, and labels at a promised precision.

    python benchmarks/calibration.py ENCODER --data esci --set model.max_length=40 --set train.epochs=2
    python benchmarks/calibration.py ENCODER --data chorus --kept
    python benchmarks/calibration.py ENCODER --data chorus --row 'ours, encoder alone' --folds 5
    python benchmarks/calibration.py ENCODER --data chorus --row 'ours, trees alone' --folds 5

A model is trained on one half of the queries, or with ``--folds`` on all but a fold, each in turn. Of those that it
held out, one half calibrates it and the other is measured, then the other way round, as `zhichun calibrate` reports it;
`HALVINGS` times, by other halves. The logits of each training are kept in ``results/quality_lists`` and not made again;
``--kept`` measures what lies there already, of whatever recipe, in place of training. `chorus` and `esci` are the
folders that ``CHORUS_DATA`` and ``ESCI_DATA`` name. Trees, which need no training, are measured in the same way and
written to a file of their own.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is there; threads share cores with others
os.environ.setdefault("JAX_PLATFORMS", "cpu")  # where JAX is installed too, it would take most of a GPU's memory

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from esci_arguments import HERE
from list_cells import Bench, Cell
from list_rows import SHARED, Row, named
from machine import circumstances, command_as_given
from quality_lists import of_fold

from zhichun.core import schema
from zhichun.core.files import write_json
from zhichun.core.tasks import softmax
from zhichun.fit.calibrate import METRICS, cross_fitted, label_figures
from zhichun.fit.recipes.kdd2022 import baseline
from zhichun.metrics import Judged, label_codes
from zhichun.metrics.significance import Interval, drawn_values

HALVINGS = 5
# The second shows how promises are kept where a model is never as sure as the first asks for.
PROMISED = (0.9, 0.7)
PARTS, FOLD = 2, 0
# The encoder alone: thousands of pairs are few for the weights of trigrams and ids.
ROW = Row(
    "ours, plain encoder", "ours", tuple(f"model.{part}=null" for part in ("trigrams", "country", "brand", "color"))
)


def measured(bench: Bench, cases: dict[str, np.ndarray]) -> dict[str, Any]:
    """Measure the logits of several trainings on the pairs that all left out: the mean over trainings and halvings."""
    place_P = np.concatenate([bench.left_out(fold) for fold in bench.folds])
    labels_P = label_codes(bench.judged.column(schema.LABEL).to_pylist())[place_P]
    queries, query_P = np.unique(bench.judged.column(schema.QUERY_ID).to_numpy()[place_P], return_inverse=True)
    locale_P = np.asarray(bench.judged.column(schema.LOCALE).to_pylist())[place_P]
    parts = {"all": np.ones(len(place_P), bool)}
    parts |= {name: locale_P == name for name in np.unique(locale_P).tolist() if (locale_P != name).any()}
    said: dict[str, list[Judged]] = {"before": [], "after": []}
    ways, each = [], {}
    promises: dict[float, list[dict[str, Any]]] = {promised: [] for promised in PROMISED}
    for name, logits_PC in cases.items():
        for halving in range(HALVINGS):
            half_Q = np.random.default_rng(halving).permutation(len(queries))
            for promised, kept in promises.items():
                way, after_PC, given_P = cross_fitted(logits_PC, labels_P, half_Q[query_P], promised)
                judged = Judged(query_P, labels_P, probabilities=after_PC)
                kept.append(dict(zip(schema.LABELS, label_figures(judged, given_P), strict=True)))
            said["before"].append(Judged(query_P, labels_P, probabilities=softmax(logits_PC)))
            said["after"].append(judged)
            ways.append(way)
        each[name] = {when: means(of[-HALVINGS:]) for when, of in said.items()}
    return {
        "pairs": len(place_P),
        "queries": len(queries),
        "figures": {
            name: {when: means([one.select(mask) for one in of]) for when, of in said.items()}
            for name, mask in parts.items()
        },
        "trainings": each,
        "ways": {way: ways.count(way) for way in sorted(set(ways))},
        "promises": {
            f"{promised:g}": {name: kept_of(kept, name, promised) for name in schema.LABELS}
            for promised, kept in promises.items()
        },
    }


def logits_of(bench: Bench, cell: Cell) -> np.ndarray:
    """Give what a training, or what needs none, says of the pairs that it left out."""
    if cell.row.trained:
        return bench.logits(cell).astype(np.float64)
    probabilities_PC = of_fold(bench, cell)[1].probabilities
    assert probabilities_PC is not None, f"{cell.row.name} has no probabilities"
    return np.log(np.maximum(probabilities_PC, 1e-12))


def means(judged: list[Judged]) -> dict[str, Any]:
    """Give the mean of each figure, with the interval that draws of the queries give it."""
    values_MF, drawn_MSF = drawn_values(METRICS, *judged, draws=1000, seed=0)
    found = Interval.of(values_MF.mean(axis=0), drawn_MSF.mean(axis=0))
    return {metric.name: asdict(each) for metric, each in zip(METRICS, found, strict=True)}


def kept_of(promises: list[dict[str, Any]], name: str, promised: float) -> dict[str, Any]:
    """Say how often a label was given at all, and of these cases how often, and how well, the promise was kept."""
    values = [each[name]["precision"]["value"] for each in promises if each[name]["precision"]]
    found = {"cases": len(promises), "given_in": len(values)}
    found["given"] = float(np.mean([each[name]["given"] for each in promises]))
    if values:
        found |= {
            "mean": float(np.mean(values)),
            "least": min(values),
            "kept": sum(value >= promised for value in values),
        }
    return found


def kept_cases(bench: Bench) -> dict[str, np.ndarray]:
    """Read every kept training of the fold that tells the labels apart."""
    found, pairs = {}, len(bench.left_out(FOLD))
    for path in sorted((bench.kept / bench.name).glob(f"*/fold-{FOLD}.seed-*.parquet")):
        table = pq.read_table(path)
        if table.num_columns == len(schema.LABELS) and table.num_rows == pairs:
            columns = [column.to_numpy() for column in table.columns]
            found[f"{path.parent.name}/{path.stem}"] = np.stack(columns, axis=1).astype(np.float64)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder", help="name or folder of a transformers encoder of the kind of BERT or XLM-R")
    parser.add_argument("--name", help="what the results call it, if not as it is given")
    parser.add_argument("--data", required=True, help="chorus, esci, or a folder in the official layout")
    parser.add_argument("--row", help="a row of quality_lists.py, in place of the plain encoder")
    parser.add_argument(
        "--folds", type=int, help="measure all queries, each by the one of so many models that left it out"
    )
    parser.add_argument("--kept", action="store_true", help="measure the trainings that are kept")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the recipe")
    parser.add_argument("--at-once", type=int, default=1, help="trainings side by side, for a GPU that one leaves idle")
    parser.add_argument("--work", type=Path, default=HERE / "work")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    given = parser.parse_args()
    if given.kept and (given.row or given.folds):
        parser.error("--kept measures the trainings of one half that are there: without --row and --folds")
    bench = Bench(
        name=Path(given.data).name,
        source=Path(os.environ.get(f"{given.data.upper()}_DATA", given.data)),
        recipe=baseline().with_settings([f"model.encoder={given.encoder}", *SHARED, *given.set]),
        encoder=given.name or given.encoder,
        work=given.work / "quality_lists",
        kept=given.results / "quality_lists",
        parts=given.folds or PARTS,
        only=None if given.folds else FOLD,
        at_once=given.at_once,
    )
    if given.kept:
        cases = kept_cases(bench)
    else:
        [row] = named([given.row]) if given.row else [ROW]
        cells = [Cell(row, fold, None, seed) for fold in bench.folds for seed in given.seeds]
        bench.run(cells)
        said = {cell: logits_of(bench, cell) for cell in cells}  # fold by fold: the texts of one are read once
        cases = {
            f"seed-{seed}": np.concatenate([of for cell, of in said.items() if cell.seed == seed])
            for seed in given.seeds
        }
    found = {
        "what": "calibration error on held-out queries, and precision of the labels that are given",
        "command": command_as_given("calibration.py"),
        **circumstances("zhichun", "torch", "numpy"),
        "encoder": bench.encoder,
        "data": bench.name,
        "settings": "of each training"
        if given.kept
        else [*SHARED, *(named([given.row])[0] if given.row else ROW).settings, *given.set],
        "halvings": HALVINGS,
        **measured(bench, cases),
    }
    of_trees = "_trees" if given.row and not named([given.row])[0].trained else ""
    write_json(given.results / f"calibration_{bench.name}{of_trees}.json", found)
    sys.stdout.write(f"{found['figures']['all']}\n{found['promises']}\n")


if __name__ == "__main__":
    main()
