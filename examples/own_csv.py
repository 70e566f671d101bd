"""From two CSV files of one's own to a served model.

Run ``python examples/own_csv.py judgements.csv catalogue.csv FOLDER``. The judgements have the columns query,
product_id and grade (3 is Exact, 0 Irrelevant), the catalogue product_id and title, and brand, color, bullets and
description where it has them; both have a locale where there are several. The page is then at http://127.0.0.1:8080,
beside the APIs of docs/integrations.md.
"""

import sys
from pathlib import Path

from zhichun import evaluate, load_recipe, prepare, train
from zhichun.cli import main


def trained(judgements: Path, catalogue: Path, folder: Path, settings: tuple[str, ...] = ()) -> Path:
    """Prepare, train and measure in ``folder``; gives the run, which is served then."""
    data, run = folder / "data", folder / "run"
    prepare(None, data, examples=judgements, products=catalogue, labels={"3": "E", "2": "S", "1": "C", "0": "I"})
    train(load_recipe("tiny").with_settings(settings), data, run)
    measured = evaluate(run, data)
    print(f"nDCG {measured['ndcg']:.3f}, in random order {measured['random_order']['ndcg']:.3f}")
    return run


if __name__ == "__main__":
    run = trained(*map(Path, sys.argv[1:4]))
    main(["serve", str(run), "--products", str(run.parent / "data")])
