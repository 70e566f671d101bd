"""What the paper's ensemble of six gains on the sample shop, all of it through the command line.

    OMP_NUM_THREADS=1 python benchmarks/ensemble_shop.py [--work FOLDER] [--epochs 3] [--products 2000 --queries 600]

Three classifiers and three regressors (`kdd2022:task1_member1` … `6`) in a tiny shape, the last two on data without the
4 % of the judgements that `zhichun audit` doubts most. All hold out fold 1, where the paper's hold out fold 1 or one
twentieth, so that weights can be fitted too. What is done already is not done again.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from machine import circumstances

from zhichun.core.files import read_json, write_json

HERE = Path(__file__).parent
DROP = 0.04
MEMBERS = {
    "member1": "classifier",
    "member2": "classifier, bullets before brand",
    "member3": "classifier, description before bullets",
    "member4": "regressor",
    "member5": "regressor, without the worst judgements",
    "member6": "regressor with trigrams, without the worst judgements",
}
WITHOUT_WORST = ("member5", "member6")
SHAPE = (
    "model.encoder=tiny",
    "model.tiny.layers=2",
    "model.tiny.matching_layers=1",
    "model.max_length=64",
    "model.brand=32",
    "model.color=32",
    "train.learning_rate=1e-3",
    "train.precision=fp32",
    "train.validation_fold=1",
)


def call(work: Path, *arguments: object) -> float:
    """Call the command line in the work folder; gives the seconds that it took."""
    command = [sys.executable, "-m", "zhichun", *map(str, arguments)]
    sys.stderr.write(f"$ zhichun {' '.join(command[3:])}\n")
    began = time.monotonic()
    subprocess.run(command, cwd=work, check=True, env=dict(os.environ))
    return time.monotonic() - began


def make(work: Path, shop: Mapping[str, int], epochs: int, audit_epochs: int) -> None:
    """Make everything up to the ensembles, as far as it is not there."""
    done = work / "seconds.json"
    seconds: dict[str, float] = read_json(done) if done.is_file() else {}

    def once(name: str, made: Path, step: Callable[[], float]) -> None:
        if not made.exists():
            seconds[name] = seconds.get(name, 0) + step()
            write_json(done, seconds)

    sizes = [option for name, value in shop.items() for option in (f"--{name}", value)]
    once("sample", work / "shop", lambda: call(work, "sample", "shop", *sizes))
    once("prepare", work / "data", lambda: call(work, "prepare", "shop", "data"))
    audit = ("audit", "tiny", "--set", f"train.epochs={audit_epochs}", "--data", "data", "--out", "audit")
    once("audit", work / "audit" / "drop.csv", lambda: call(work, *audit, "--drop", DROP))
    prepare = ("prepare", "shop", "data-dropped", "--drop-issues", "audit/drop.csv")
    once("prepare without the worst", work / "data-dropped", lambda: call(work, *prepare))
    for name in MEMBERS:
        settings = [*SHAPE, f"train.epochs={epochs}", *(["model.trigrams=32"] if name == "member6" else [])]
        data = "data-dropped" if name in WITHOUT_WORST else "data"
        train = ["train", f"kdd2022:task1_{name}", "--data", data, "--out", name, "--resume"]
        train += [f"--set={setting}" for setting in settings]
        once(name, work / name / "model", lambda train=train: call(work, *train))


def measure(work: Path) -> dict[str, Any]:
    """Put the six together in both ways, and evaluate both."""
    result: dict[str, Any] = {}
    for weights in ("equal", "fitted"):
        options = ("--weights", weights, "--data", "data", "--overwrite")
        call(work, "ensemble", *MEMBERS, "--out", weights, *options)
        call(work, "evaluate", weights, "--data", "data")
        found = read_json(work / weights / "metrics.json")
        made = read_json(work / weights / "ensemble.json")
        result[weights] = {
            "ndcg": found["ndcg"],
            "micro_f1": found.get("micro_f1"),
            **found["ensemble"],
            "held_out": made["gain"],
        }
        if weights == "equal":
            result["pairs"], result["queries"] = found["pairs"], found["queries"]
            result["random_order"] = found["random_order"]["ndcg"]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=HERE / "work" / "ensemble_shop", help="where all is kept")
    parser.add_argument("--epochs", type=int, default=3, help="of each member")
    parser.add_argument("--audit-epochs", type=int, default=3, help="of each of the audit's folds")
    parser.add_argument("--products", type=int, default=2000, help="of the shop")
    parser.add_argument("--queries", type=int, default=600, help="of the shop")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "ensemble_shop.json")
    given = parser.parse_args()
    work: Path = given.work
    work.mkdir(parents=True, exist_ok=True)
    shop = {"products": given.products, "queries": given.queries, "seed": 0}
    make(work, shop, given.epochs, given.audit_epochs)
    measured = measure(work)
    result = {
        "what": "the six members of task 1 on the sample shop, alone and together",
        "command": " ".join(["python benchmarks/ensemble_shop.py", *_options(given, parser)]),
        **circumstances("zhichun", "torch", "transformers", "cleanlab"),
        "data": {**shop, "drop": DROP, "audit_epochs": given.audit_epochs},
        "members": MEMBERS,
        "settings": [*SHAPE, f"train.epochs={given.epochs}"],
        "seconds": read_json(work / "seconds.json"),
        **measured,
    }
    write_json(given.out, result)
    for weights in ("equal", "fitted"):
        sys.stdout.write(f"{weights}: nDCG {measured[weights]['ndcg']:.4f}, {measured[weights]['against_best']}\n")


def _options(given: argparse.Namespace, parser: argparse.ArgumentParser) -> list[str]:
    """Name what was not left as it is."""
    names = ("epochs", "audit_epochs", "products", "queries")
    changed = {name: getattr(given, name) for name in names if getattr(given, name) != parser.get_default(name)}
    return [f"--{name.replace('_', '-')} {value}" for name, value in changed.items()]


if __name__ == "__main__":
    main()
