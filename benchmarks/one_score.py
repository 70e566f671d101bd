r"""What the student that other engines take (`distil:one_score`) loses against its teacher, ranking held-out queries.

    python benchmarks/one_score.py --data chorus --encoder FOLDER [--set KEY=VALUE …] [--set-teacher KEY=VALUE …]

For each of three seeds: a teacher (`zhichun:best`) learns the judged pairs; `zhichun pool` draws candidates of the
training queries that nobody judged, and labels them by the teacher; a student with the same encoder regresses the
expected gain of both, and is compared with the teacher on the test queries. The value of each query is averaged over
the seeds, then queries are drawn with replacement. ``--data`` is a folder in the official layout, or `chorus` for that
which ``CHORUS_DATA`` names. Called again, it goes on where it was stopped; other data has a folder of its own in the
work folder. Writes ``benchmarks/results/one_score.json``.
"""

import argparse
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from esci_arguments import apart
from machine import circumstances, command_as_given

from zhichun.core import schema
from zhichun.core.files import write_json
from zhichun.data.prepare.prepare import prepare
from zhichun.fit.pool import make_pool
from zhichun.fit.recipe import Recipe, load_recipe
from zhichun.fit.train import train
from zhichun.measure.evaluate import evaluate
from zhichun.metrics import Judged, label_codes, nDCG, paired_bootstrap

HERE = Path(__file__).parent
SEEDS = (0, 1, 2)
METRICS = {"ndcg": nDCG(), "ndcg@10": nDCG() @ 10}
SIDES = ("teacher", "student")


def main() -> None:
    given = parse_arguments()
    name = Path(given.data).resolve().name
    source = Path(os.environ["CHORUS_DATA"] if given.data == "chorus" else given.data)
    given.work = apart(given.work, source, given.encoder, *given.set, *given.set_teacher, *given.set_student)
    data = given.work / "data"
    if not data.is_dir():
        prepare(source, data)
    recipes = {
        "teacher": load_recipe("zhichun:best").with_settings(
            [f"model.encoder={given.encoder}", *given.set, *given.set_teacher]
        ),
        "student": load_recipe("distil:one_score").with_settings(
            [f"model.encoder={given.encoder}", *given.set, *given.set_student]
        ),
    }
    judged: dict[str, list[Judged]] = {side: [] for side in SIDES}
    for seed in SEEDS:
        for side, found in trained(given, recipes, data, seed).items():
            judged[side].append(found)
    one = judged["teacher"][0]
    values = {
        name: {side: np.stack([metric.per_query(run)[1] for run in runs]) for side, runs in judged.items()}
        for name, metric in METRICS.items()
    }
    result = {
        "what": "a student with one score against its teacher of four classes, on the test queries",
        "command": command_as_given("one_score.py"),
        **circumstances("zhichun", "torch", "transformers"),
        "data": {"name": name, "test_pairs": len(one.labels), "test_queries": len(one.queries)},
        "encoder": given.name or given.encoder,
        "pool_pairs": [pq.read_metadata(given.work / f"pool-{seed}.parquet").num_rows for seed in SEEDS],
        "seeds": list(SEEDS),
        "random_order": {name: metric(one.in_random_order()) for name, metric in METRICS.items()},
        **{side: {name: of[side].mean(axis=1).tolist() for name, of in values.items()} for side in SIDES},
        "student_minus_teacher": {
            name: asdict(paired_bootstrap(of["student"].mean(axis=0), of["teacher"].mean(axis=0)))
            for name, of in values.items()
        },
    }
    write_json(given.out, result)
    print(result["student_minus_teacher"])


def trained(given: argparse.Namespace, recipes: dict[str, Recipe], data: Path, seed: int) -> dict[str, Judged]:
    """Train a teacher, label a pool by it, and train a student; gives the test pairs as each scores them."""
    runs = {side: given.work / f"{side}-{seed}" for side in SIDES}
    pool, queries = given.work / f"pool-{seed}.parquet", given.work / "queries.csv"
    train(recipes["teacher"].with_settings([f"train.seed={seed}"]), data, runs["teacher"], resume=True)
    if not pool.is_file():
        asked = pq.read_table(data / schema.EXAMPLES_FILE, columns=[schema.QUERY, schema.LOCALE])
        pa_csv.write_csv(asked.group_by([schema.QUERY, schema.LOCALE]).aggregate([]), queries)
        make_pool(runs["teacher"], data, queries, pool, per_query=given.per_query, seed=seed)
    train(
        recipes["student"].with_settings([f"train.seed={seed}", f"train.pool={pool}"]),
        data,
        runs["student"],
        resume=True,
    )
    return {side: on_test(run, data) for side, run in runs.items()}


def on_test(run: Path, data: Path) -> Judged:
    """Score the test pairs with a run, unless it has; gives them by expected gain."""
    if not (run / "scored.parquet").is_file():
        evaluate(run, data, shown=False)
    table = pq.read_table(run / "scored.parquet").sort_by([(schema.QUERY_ID, "ascending"), ("product_id", "ascending")])
    scores: Any = table["gain"].to_numpy().astype(np.float64)
    return Judged(table[schema.QUERY_ID].to_numpy(), label_codes(table[schema.LABEL].to_pylist()), scores=scores)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="chorus, or a folder in the official layout")
    parser.add_argument("--encoder", required=True, help="of both sides: a name of the hub or a folder")
    parser.add_argument("--name", help="what the encoder is called, where it is a folder")
    parser.add_argument("--per-query", type=int, default=20, help="pairs of the pool for each training query")
    for side in ("", "-teacher", "-student"):
        parser.add_argument(f"--set{side}", action="append", default=[], metavar="KEY=VALUE", help="change a recipe")
    parser.add_argument("--work", type=Path, default=HERE / "work" / "one-score", help="where data and runs are kept")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "one_score.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
