"""Whether `zhichun audit` finds the wrong labels of the sample shop, all of which are known.

    OMP_NUM_THREADS=1 python benchmarks/audit_shop.py [--work FOLDER] [--set KEY=VALUE …]

Five models of the recipe `tiny` are trained, each without one fold. The audit sees the labels as given; what is wrong
is only looked up afterwards. Folds that are trained already are not trained again.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from machine import circumstances

from zhichun.core import schema
from zhichun.core.files import read_json, write_json
from zhichun.data.prepare.prepare import prepare
from zhichun.data.sample_shop import TRUE_LABEL, TRUE_LABELS_FILE, write_sample_shop
from zhichun.fit.recipe import load_recipe
from zhichun.judgements.audit import audit

HERE = Path(__file__).parent
SHOP = {"products": 2000, "queries": 600, "seed": 0}
DROP = 0.04
Mask = npt.NDArray[np.bool_]


def figures(chosen: Mask, wrong: Mask) -> dict[str, float]:
    """Say how many of the chosen pairs are wrong, and how many of the wrong ones are chosen."""
    hits = int((chosen & wrong).sum())
    precision = hits / max(1, int(chosen.sum()))
    return {
        "pairs": int(chosen.sum()),
        "wrong": hits,
        "precision": precision,
        "recall": hits / int(wrong.sum()),
        "times_chance": precision / float(wrong.mean()),
    }


def measure(folder: Path, shop: Path) -> dict[str, Any]:
    """Hold an audit against the true labels."""
    pairs = pq.read_table(folder / "out_of_fold.parquet")
    issues = pq.read_table(folder / "issues.parquet", columns=[schema.EXAMPLE_ID, "likely_label"])
    truth = pq.read_table(shop / TRUE_LABELS_FILE)
    ids = pairs[schema.EXAMPLE_ID]
    true = truth[TRUE_LABEL].take(pc.index_in(ids, value_set=truth[schema.EXAMPLE_ID]))
    given = pairs[schema.LABEL].to_numpy()
    wrong = given != true.to_numpy()
    dropped = pacsv.read_csv(folder / "drop.csv")[schema.EXAMPLE_ID]
    is_issue = pairs["issue"].to_numpy()
    likely = issues["likely_label"].take(pc.index_in(ids.filter(pa.array(is_issue)), issues[schema.EXAMPLE_ID]))
    right = likely.to_numpy() == true.filter(pa.array(is_issue)).to_numpy()
    return {
        "pairs": len(pairs),
        "wrong": int(wrong.sum()),
        "chance": float(wrong.mean()),
        "issues": figures(is_issue, wrong),
        "likely_label_right_of_wrong_issues": float(right[wrong[is_issue]].mean()),
        "dropped": figures(pc.is_in(ids, value_set=dropped).to_numpy(), wrong),
        "issues_by_given_label": {
            label: figures(is_issue[given == label], wrong[given == label]) for label in schema.LABELS
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=HERE / "work" / "audit_shop", help="where shop and runs are kept")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    work: Path = given.work
    if not (work / "data").is_dir():
        write_sample_shop(work / "shop", **SHOP, overwrite=True)
        prepare(work / "shop", work / "data")
    began = time.monotonic()
    recipe = load_recipe("tiny").with_settings(given.settings)
    summary = audit(work / "data", work / "audit", recipe=recipe, drop=DROP)
    clock = work / "seconds.json"  # of all calls: the folds of one that was killed are not trained again
    seconds = time.monotonic() - began + (read_json(clock) if clock.is_file() else 0)
    write_json(clock, seconds)
    measured = measure(work / "audit", work / "shop")
    result = {
        "what": "wrong labels of the sample shop found by confident learning",
        "command": " ".join(["python benchmarks/audit_shop.py", *(f"--set {setting}" for setting in given.settings)]),
        **circumstances("zhichun", "torch", "transformers", "cleanlab"),
        "data": {**SHOP, "folds": summary["folds"]},
        "recipe": {"name": "tiny", "settings": given.settings, "epochs": recipe.train.epochs},
        "seconds": round(seconds),
        "out_of_fold": summary["out_of_fold"],
        "drop": DROP,
        **measured,
    }
    write_json(HERE / "results" / "audit_shop.json", result)
    sys.stdout.write(f"{seconds:.0f} s\n{measured}\n")


if __name__ == "__main__":
    main()
