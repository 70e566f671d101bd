"""Whether a job of four shards loses anything when they are killed, and what a changed catalogue costs.

    python benchmarks/shards.py [--kills 100] [--pairs 1000000] [--part-rows 20000] [--seed 0] [--work FOLDER]
    python benchmarks/shards.py --kills 0 --changed-pairs 10000 100000 --models run minilm [--work FOLDER]

Scores pairs of the sample shop once in peace, by one process, and then by four that are killed (SIGKILL) at random
moments, all at once or one of them, and started again until so many kills have fallen; each time a job is done, its
folder must be that of the peaceful one, byte for byte, and a new one begins. Processes are forks of one, so that the
libraries are imported once. Writes ``results/shards.json``.

Without kills, one product in a hundred is changed, and the pairs are scored ``--since`` the job before, by the very
small model and by one of all-MiniLM-L6-v2's shape, of random weights: the CPU seconds of each step, without starting
the process and loading the model, are set beside those of scoring all pairs. Writes ``results/shards_since.json``.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from kills import differing, import_once, start
from machine import circumstances, command_as_given
from scaling import SETTINGS, write_pairs

from zhichun.core import schema
from zhichun.core.files import read_json, write_json
from zhichun.core.tasks import TASKS
from zhichun.data.dataset import Dataset
from zhichun.data.prepare.prepare import prepare
from zhichun.data.sample_shop import write_sample_shop
from zhichun.fit.recipe import load_recipe
from zhichun.fit.train import build_model, make_featurizer, train
from zhichun.model.model_folder import TrainedModel
from zhichun.score import job
from zhichun.score.job import ScoringJob
from zhichun.score.job_folder import Earlier, JobFolder
from zhichun.score.scorer import Scorer

HERE: Final = Path(__file__).parent
SHARDS: Final = 4
SHOP: Final = {"products": 20_000, "queries": 400, "seed": 0}
CHANGED: Final = 0.01
GOAL: Final = {"faults": 0}
GOAL_SINCE: Final = 0.013
RECORDS: Final = "_shards"
COMPUTING: Final = ("texts", "model")
MODELS: Final = {
    "minilm": [
        *("model.tiny.layers=6", "model.tiny.hidden=384", "model.tiny.heads=12", "model.tiny.matching_layers=null"),
        *("model.max_length=64", "model.trigrams=null", "model.brand=null", "model.color=null"),
    ]
}


def make(work: Path, pairs: int) -> None:
    """Make shop, run and pairs, as far as they are not there."""
    if not (work / "data").is_dir():
        write_sample_shop(work / "shop", **SHOP, overwrite=True)
        prepare(work / "shop", work / "data")
    train(load_recipe("tiny").with_settings(SETTINGS), work / "data", work / "run", resume=True)
    if not (work / "in").is_dir() or pq.read_metadata(work / "in" / "pairs.parquet").num_rows != pairs:
        (work / "in").mkdir(exist_ok=True)
        write_pairs(work / "data", pairs, work / "in" / "pairs.parquet", texts=True)


def arguments(out: str, part_rows: int, *more: str) -> list[str]:
    return ["score", "run", "in", out, "--part-rows", str(part_rows), *more]


def ended(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def start_shard(work: Path, shard: int, part_rows: int) -> int:
    return start(work, arguments("killed", part_rows, "--shard", f"{shard}/{SHARDS}"), f"log-{shard}")


def said(work: Path, shard: int, status: int) -> str:
    return f"shard {shard} ended with {status}: {(work / f'log-{shard}').read_text()[-300:]}"


def kill_often(work: Path, part_rows: int, kills: int, seconds: float, chance: random.Random) -> dict[str, Any]:
    """Kill shards until so many kills have fallen; gives kills, jobs that were compared, and faults."""
    fallen, jobs, faults = 0, 0, list[str]()
    while fallen < kills:
        shutil.rmtree(work / "killed", ignore_errors=True)
        while fallen < kills:
            shards = [start_shard(work, shard, part_rows) for shard in range(SHARDS)]
            doomed = shards if chance.random() < 0.5 else [chance.choice(shards)]
            time.sleep(chance.uniform(0, seconds))
            for shard in doomed:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(shard, signal.SIGKILL)
            statuses = [ended(shard) for shard in shards]
            fallen += statuses.count(-signal.SIGKILL)
            bad = [shard for shard, status in enumerate(statuses) if status not in (0, -signal.SIGKILL)]
            faults += [said(work, shard, statuses[shard]) for shard in bad]
            if (work / "killed" / "_SUCCESS").is_file():
                break
        for shard in range(SHARDS):
            if status := ended(start_shard(work, shard, part_rows)):
                faults.append(said(work, shard, status))
        faults += [each for each in differing(work / "peace", work / "killed") if not each.startswith(RECORDS)]
        jobs += 1
        sys.stderr.write(f"{fallen} kills, {jobs} jobs, {len(faults)} faults {faults[-1:]}\n")
    return {"kills": fallen, "jobs": jobs, "faults": faults}


def calls() -> list[tuple[Any, str, str]]:
    """List the steps whose CPU seconds are counted: where each is, and what it is called here."""
    return [
        (Scorer, "read", "texts"),
        (Scorer, "predict", "model"),
        (job, "pair_keys", "keys"),
        (Earlier, "__init__", "earlier"),
        (Earlier, "find", "earlier"),
        (JobFolder, "write", "writing"),
    ]


@contextlib.contextmanager
def counted() -> Iterator[Counter[str]]:
    """Count the CPU seconds of each step, and the pairs that are computed, while the block runs."""
    found, whole = Counter[str](), [(owner, name, getattr(owner, name)) for owner, name, _ in calls()]

    def timed(step: Callable[..., Any], what: str) -> Callable[..., Any]:
        def call(*given: Any, **options: Any) -> Any:
            began = time.process_time()
            made = step(*given, **options)
            found[what] += time.process_time() - began  # type: ignore[assignment]
            found["pairs"] += len(given[1].queries) if what == "texts" else 0
            return made

        return call

    for owner, name, what in calls():
        setattr(owner, name, timed(getattr(owner, name), what))
    try:
        yield found
    finally:
        for owner, name, step in whole:
            setattr(owner, name, step)


def change_catalogue(work: Path, chance: np.random.Generator) -> None:
    """Change the title of one product in a hundred, in every pair that has it."""
    pairs = pq.read_table(work / "in" / "pairs.parquet")
    ids = pairs.column(schema.PRODUCT_ID).to_numpy()
    known = np.unique(ids)
    changed = set(chance.choice(known, round(CHANGED * len(known)), replace=False).tolist())
    titles = [
        f"{title} renewed" if product in changed else title
        for product, title in zip(ids.tolist(), pairs.column(schema.TITLE).to_pylist(), strict=True)
    ]
    (work / "changed").mkdir(exist_ok=True)
    place = pairs.column_names.index(schema.TITLE)
    pq.write_table(pairs.set_column(place, schema.TITLE, pa.array(titles)), work / "changed" / "pairs.parquet")


def since(work: Path, part_rows: int, run: str) -> dict[str, Any]:
    """Score the pairs, all of them, and then the changed ones since that; gives CPU seconds, by step."""
    change_catalogue(work, np.random.default_rng(0))
    found: dict[str, Any] = {}
    for name, pairs, earlier in (("whole", "in", None), ("since", "changed", work / "whole")):
        shutil.rmtree(work / name, ignore_errors=True)
        of_run = ScoringJob.load(work / run, work / pairs, work / name, chunk_rows=part_rows, since=earlier)
        with counted() as seconds:
            began = time.process_time()
            of_run.run_shard()
            in_all = time.process_time() - began
        computed = seconds.pop("pairs")
        by_step = {step: round(each, 3) for step, each in seconds.items()}
        by_step["reading"] = round(in_all - sum(by_step.values()), 3)
        found[name] = {"pairs_computed": computed, "seconds": by_step, "seconds_in_all": round(in_all, 3)}
    whole, part = found["whole"], found["since"]
    pairs, computing = whole["pairs_computed"], [sum(of["seconds"][step] for step in COMPUTING) for of in (whole, part)]
    return found | {
        "pairs": pairs,
        "milliseconds_a_pair": round(1000 * whole["seconds_in_all"] / pairs, 3),
        "share_of_pairs": round(part["pairs_computed"] / pairs, 4),
        "share_of_texts_and_model": round(computing[1] / computing[0], 4),
        "share_in_all": round(part["seconds_in_all"] / whole["seconds_in_all"], 4),
    }


def untrained_run(work: Path, name: str) -> None:
    """Make a run of a model of the shape that `MODELS` names, of random weights."""
    recipe, dataset = load_recipe("tiny").with_settings(MODELS[name]), Dataset.open(work / "data")
    torch.manual_seed(0)
    featurizer, task = make_featurizer(recipe.model, dataset), TASKS[recipe.task]
    model = build_model(recipe.model, featurizer, task).eval()
    (work / name / "model").mkdir(parents=True, exist_ok=True)
    TrainedModel(model, featurizer, recipe.model, task).save(work / name / "model")
    write_json(work / name / "recipe.json", recipe.to_json())


def cost_of_changes(work: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Measure what a change costs by each model, at each number of pairs; what is kept is not measured again."""
    kept = work / "since.json"
    found: dict[str, Any] = read_json(kept) if kept.is_file() else {}
    for name in given.models:
        for pairs in given.changed_pairs:
            if (cell := f"{name} {pairs}") not in found:
                make(work, pairs)
                if name != "run":
                    untrained_run(work, name)
                found[cell] = {"command": command_as_given("shards.py")} | since(work, given.part_rows, name)
                write_json(kept, found)
                print(cell, found[cell], flush=True)
    return {
        "what": "one product in a hundred changed, and only what changed is scored again",
        "command": next(iter(found.values()))["command"],
        "part_rows": given.part_rows,
        "goal": GOAL_SINCE,
        "models": {"run": SETTINGS} | MODELS,
        "measured": found,
        "shop": SHOP,
        **circumstances("zhichun", "torch", "pyarrow"),
    }


def main() -> None:
    """Kill, compare, change, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--changed-pairs", type=int, nargs="+", default=[10_000, 100_000], help="without kills")
    parser.add_argument("--models", nargs="+", choices=("run", *MODELS), default=["run", *MODELS], help="without kills")
    parser.add_argument("--part-rows", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="where all is kept; a folder that is removed, if not given")
    parser.add_argument("--out", type=Path, help="default: in results")
    given = parser.parse_args()
    import_once("prepare", "train")
    with tempfile.TemporaryDirectory(prefix="shards-") as temporary:
        work = (given.work or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        if not given.kills:
            write_json(given.out or HERE / "results" / "shards_since.json", cost_of_changes(work, given))
            return
        make(work, given.pairs)
        shutil.rmtree(work / "peace", ignore_errors=True)
        began = time.monotonic()
        if status := ended(start(work, arguments("peace", given.part_rows))):
            raise SystemExit(f"the peaceful run ended with {status}: {(work / 'log').read_text()[-500:]}")
        seconds = time.monotonic() - began
        killed = kill_often(work, given.part_rows, given.kills, seconds / 2, random.Random(given.seed))
        result = {
            "what": "kills over four shards of one job",
            "command": command_as_given("shards.py"),
            "pairs": given.pairs,
            "shards": SHARDS,
            "seconds_in_peace": round(seconds, 1),
            "goals": GOAL,
            "kills": killed,
            "shop": SHOP,
            "settings": SETTINGS,
            **circumstances("zhichun", "torch", "pyarrow"),
        }
    write_json(given.out or HERE / "results" / "shards.json", result)
    print(f"{killed['kills']} kills, {len(killed['faults'])} faults")
    sys.exit(1 if killed["faults"] else 0)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
