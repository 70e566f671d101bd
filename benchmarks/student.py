r"""What a small student loses against its teacher, and what it gains in speed; with and without the teacher's labels.

    python benchmarks/student.py [--work FOLDER]

The teacher is trained once for each of five folds, so that every training pair gets a soft label from a run that did
not see it; the student with three seeds on hard labels and on 0.7 soft + 0.3 hard. All are measured on the test pairs,
the teacher as its first three runs, and compared with a paired bootstrap over queries. One run of each is exported, and
the exports score the test pairs in turn by the same engine. By default both are tiny, on the sample shop. Real encoders
are named by arguments:

    python benchmarks/student.py --data DATASET_FOLDER --teacher kdd2022:baseline --student distil:student \
        --set-teacher model.encoder=FacebookAI/xlm-roberta-base

A run that is in the work folder already is not trained again. Writes ``benchmarks/results/student.json``.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from machine import circumstances, command_as_given
from two_sides import SEEDS, SHOP, difference, figures, on_test, scored, shop_data

from zhichun.core import schema
from zhichun.core.files import write_json
from zhichun.data.dataset import Dataset
from zhichun.data.feature_store import open_pairs
from zhichun.fit.folds import train_folds
from zhichun.fit.recipe import load_recipe
from zhichun.metrics import Judged, MicroF1, nDCG
from zhichun.model.model_folder import TrainedModel
from zhichun.score.export.export_folder import FORMATS
from zhichun.score.export.export_run import export
from zhichun.score.scorer import Scorer

HERE = Path(__file__).parent
TEACHER, SOFT, HARD = "teacher", "soft", "hard"
SHARE = 0.7
REPEATS = 5
TINY_TEACHER = ("train.epochs=3", "train.learning_rate=1e-3")
TINY_STUDENT = (
    "model.tiny.layers=2",
    "model.tiny.hidden=64",
    "model.tiny.heads=2",
    "model.tiny.matching_layers=1",
    "train.epochs=3",
    "train.learning_rate=1e-3",
)


def judged_sides(given: argparse.Namespace, data: Path) -> tuple[dict[str, list[Judged]], dict[str, Path]]:
    """Train teacher and students; gives the test pairs as each run scores them, and one run of each size."""
    teacher = load_recipe(given.teacher).with_settings(given.set_teacher)
    folds = train_folds(teacher, data, given.work / "folds", resume=True)
    soft = {"predictions": [str(given.work / "folds")], "share": SHARE}
    student = load_recipe(given.student).with_settings(["train.soft_labels=null", *given.set_student])
    settings = {SOFT: [f"train.soft_labels={json.dumps(soft)}"], HARD: []}
    judged = {TEACHER: [on_test(run.path, data) for run in folds[: len(SEEDS)]]}
    for side, own in settings.items():
        judged[side] = [
            scored(given.work / f"{side}-{seed}", data, student, [*own, f"train.seed={seed}"]) for seed in SEEDS
        ]
    return judged, {TEACHER: folds[0].path, SOFT: given.work / f"{SOFT}-{SEEDS[0]}"}


def speeds(given: argparse.Namespace, runs: dict[str, Path], data: Path) -> dict[str, Any]:
    """Let the exports of teacher and student score the test pairs in turn, by each engine."""
    dataset = Dataset.open(data)
    test = np.flatnonzero(dataset.column(schema.SPLIT) == schema.TEST)
    exports = {side: given.work / f"export-{side}" for side in runs}
    for side, folder in exports.items():
        if not folder.is_dir():
            export(runs[side], list(FORMATS), out=folder, data=data)
    found: dict[str, Any] = {}
    for engine in given.engines:
        scorers = {side: Scorer.load(folder, engine=engine) for side, folder in exports.items()}
        pairs = {side: open_pairs(dataset, scorer.featurizer, scorer.max_length) for side, scorer in scorers.items()}
        taken: dict[str, list[float]] = {side: [] for side in scorers}
        for repeat in range(REPEATS + 1):
            for side, scorer in scorers.items():
                began = time.perf_counter()
                scorer.predict(pairs[side], test)
                if repeat:  # the first warms up
                    taken[side].append(time.perf_counter() - began)
        found[scorers[SOFT].engine_name] = {
            **{f"{side}_pairs_per_second": len(test) / statistics.median(of) for side, of in taken.items()},
            "times_faster": statistics.median(
                slow / fast for slow, fast in zip(taken[TEACHER], taken[SOFT], strict=True)
            ),
        }
    return found


def parameters(run: Path) -> int:
    """Count the weights of a run's model."""
    return sum(weight.numel() for weight in TrainedModel.load(run / "model").model.parameters())


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=HERE / "work" / "student", help="where shop and runs are kept")
    parser.add_argument("--data", type=Path, help="dataset folder with five folds; a sample shop if not given")
    parser.add_argument("--teacher", default="tiny", help="recipe of the teacher")
    parser.add_argument("--student", default="tiny", help="recipe of the student")
    parser.add_argument("--set-teacher", action="append", metavar="KEY=VALUE", help="change the teacher's recipe")
    parser.add_argument("--set-student", action="append", metavar="KEY=VALUE", help="change the student's recipe")
    parser.add_argument("--engines", nargs="+", default=["onnx", "openvino"], help="of the exports")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "student.json")
    given = parser.parse_args()
    given.set_teacher = given.set_teacher or list(TINY_TEACHER if given.teacher == "tiny" else ())
    given.set_student = given.set_student or list(TINY_STUDENT if given.student == "tiny" else ())
    return given


def main() -> None:
    """Measure, and write the result."""
    given = parse_arguments()
    data = given.data or shop_data(given.work)
    judged, runs = judged_sides(given, data)
    one = judged[TEACHER][0]
    result = {
        "what": "a small student against its teacher, with and without the teacher's labels",
        "command": command_as_given("student.py"),
        **circumstances("zhichun", "torch", "transformers", "onnxruntime", "openvino"),
        "data": {"test_pairs": len(one.labels), "test_queries": len(one.queries), "shop": None if given.data else SHOP},
        "recipes": {TEACHER: [given.teacher, *given.set_teacher], "student": [given.student, *given.set_student]},
        "share": SHARE,
        "seeds": list(SEEDS),
        "parameters": {TEACHER: parameters(runs[TEACHER]), "student": parameters(runs[SOFT])},
        "baselines": {"always_exact": MicroF1()(one.always("E")), "random_order": nDCG()(one.in_random_order())},
        **{side: figures(of) for side, of in judged.items()},
        "soft_minus_hard": difference(judged[SOFT], judged[HARD]),
        "soft_minus_teacher": difference(judged[SOFT], judged[TEACHER]),
        "speed": speeds(given, runs, data),
    }
    write_json(given.out, result)
    sys.stdout.write(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
