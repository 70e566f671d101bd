"""What out-of-fold soft labels gain on the sample shop.

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

from two_sides import compare_sides, shop_data

from zhichun.core.files import write_json
from zhichun.fit.folds import train_folds
from zhichun.fit.recipe import load_recipe

HERE = Path(__file__).parent
SHARE = 0.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=HERE / "work" / "soft_labels", help="where shop and runs are kept")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the recipe of all runs")
    arguments = parser.parse_args()
    base = load_recipe("tiny").with_settings(arguments.set)
    train_folds(base, shop_data(arguments.work), arguments.work / "folds", resume=True)
    soft = {"predictions": [str(arguments.work / "folds")], "share": SHARE}
    sides = {"soft": [f"train.soft_labels={json.dumps(soft)}"], "hard": []}
    options = [f"--set {change}" for change in arguments.set]
    result: dict[str, Any] = {
        "what": "Self-distillation on the sample shop: 0.7 hard + 0.3 out-of-fold soft labels against hard ones",
        "command": " ".join(["python benchmarks/soft_labels.py", *options]),
        "share": SHARE,
        **compare_sides(arguments.work, base, sides),
    }
    write_json(HERE / "results" / "soft_labels.json", result)
    sys.stdout.write(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
