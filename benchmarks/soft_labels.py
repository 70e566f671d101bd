"""What out-of-fold soft labels are worth on the sample shop, and what CAN's prior correction does to held-out folds.

    python benchmarks/soft_labels.py [--work FOLDER] [--set KEY=VALUE ...]

One run for each of five folds; then students with three seeds, on hard labels and on 0.7 hard + 0.3 soft, the mix of
the contest's first team. The test split has no wrong labels, the training split some. A run that is in the work folder
already is not trained again.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from two_sides import compare_sides, shop_data

from zhichun.core.files import write_json
from zhichun.core.tasks import TASKS
from zhichun.fit.folds import train_folds
from zhichun.fit.recipe import load_recipe
from zhichun.metrics.figures import COMPARED, compare
from zhichun.score.prior_correction import HeldOutPredictions

HERE = Path(__file__).parent
SHARE = 0.3
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)


def prior_corrections(runs: list[Path]) -> dict[str, Any]:
    """Correct what each run held out, each half of its queries by the other half; the means over the runs."""
    found: dict[str, Any] = {}
    task = TASKS["esci"]
    for threshold in THRESHOLDS:
        compared = []
        for held_out in (HeldOutPredictions.of_run(run, task) for run in runs):
            corrected_HC = held_out.corrected(threshold)
            if corrected_HC is not None:
                sides = map(task.of_probabilities, (held_out.probabilities_HC, corrected_HC))
                compared.append(compare(*sides, held_out.labels_H, held_out.query_ids))
        if compared:
            found[str(threshold)] = {
                "runs": len(compared),
                **{name: sum(of[name] for of in compared) for name in ("pairs", "changed")},
                **{
                    when: {name: float(np.mean([of[when][name] for of in compared])) for name in COMPARED}
                    for when in ("before", "after")
                },
            }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=HERE / "work" / "soft_labels", help="where shop and runs are kept")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the recipe of all runs")
    arguments = parser.parse_args()
    base = load_recipe("tiny").with_settings(arguments.set)
    folds = train_folds(base, shop_data(arguments.work), arguments.work / "folds", resume=True)
    soft = {"predictions": [str(arguments.work / "folds")], "share": SHARE}
    sides = {"soft": [f"train.soft_labels={json.dumps(soft)}"], "hard": []}
    options = [f"--set {change}" for change in arguments.set]
    result: dict[str, Any] = {
        "what": "Self-distillation on the sample shop: 0.7 hard + 0.3 out-of-fold soft labels against hard ones",
        "command": " ".join(["python benchmarks/soft_labels.py", *options]),
        "share": SHARE,
        **compare_sides(arguments.work, base, sides),
        "prior_correction_of_held_out_folds": prior_corrections([run.path for run in folds]),
    }
    write_json(HERE / "results" / "soft_labels.json", result)
    sys.stdout.write(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
