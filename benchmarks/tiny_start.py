"""What the tiny encoder's matching start gains on the sample shop, over the usual random start.

    python benchmarks/tiny_start.py [--work FOLDER]

Both sides train the `tiny` recipe with three seeds; only `model.tiny.matching_layers` differs. The test split has no
wrong labels. A run that is in the work folder already is not trained again.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from two_sides import compare_sides

from zhichun.core.files import write_json
from zhichun.fit.recipe import load_recipe

HERE = Path(__file__).parent
STARTS = {"matching": ["model.tiny.matching_layers=2"], "random": ["model.tiny.matching_layers=null"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=HERE / "work" / "tiny_start", help="where shop and runs are kept")
    result: dict[str, Any] = {
        "what": "tiny encoder on the sample shop: matching start against random start",
        "command": "python benchmarks/tiny_start.py",
        **compare_sides(parser.parse_args().work, load_recipe("tiny"), STARTS),
    }
    write_json(HERE / "results" / "tiny_start.json", result)
    sys.stdout.write(f"{result['difference']}\n{result['matching']}\n{result['random']}\n")


if __name__ == "__main__":
    main()
