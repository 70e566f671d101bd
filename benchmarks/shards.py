"""Whether a job of four shards loses anything when they are killed, and what a changed catalogue costs.

    python benchmarks/shards.py [--kills 100] [--pairs 1000000] [--part-rows 20000] [--seed 0] [--work FOLDER]

Scores pairs of the sample shop once in peace, by one process, and then by four that are killed (SIGKILL) at random
moments, all at once or one of them, and started again until so many kills have fallen; each time a job is done, its
folder must be that of the peaceful one, byte for byte, and a new one begins. Then one product in a hundred is changed,
and the pairs are scored ``--since`` the first job: the CPU time of reading their texts and computing is set beside that
of all pairs. Processes are forks of one, so that the libraries are imported once. Writes ``results/shards.json``.
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
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from kills import differing, import_once, start
from machine import circumstances, command_as_given
from scaling import SETTINGS, write_pairs

from zhichun.core import schema
from zhichun.core.files import write_json
from zhichun.data.prepare.prepare import prepare
from zhichun.data.sample_shop import write_sample_shop
from zhichun.fit.recipe import load_recipe
from zhichun.fit.train import train
from zhichun.score.job import ScoringJob

HERE: Final = Path(__file__).parent
SHARDS: Final = 4
SHOP: Final = {"products": 20_000, "queries": 400, "seed": 0}
CHANGED: Final = 0.01
GOAL: Final = {"faults": 0, "share_of_the_whole": 0.013}
RECORDS: Final = "_shards"


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


class Timed:
    """A scorer whose CPU seconds are counted."""

    def __init__(self, scorer: Any) -> None:
        self._scorer, self.seconds, self.pairs = scorer, 0.0, 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._scorer, name)
        if name not in ("read", "predict"):
            return found

        def timed(*given: Any, **options: Any) -> Any:
            began = time.process_time()
            made = found(*given, **options)
            self.seconds += time.process_time() - began
            self.pairs += len(given[0]) if name == "read" else 0
            return made

        return timed


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


def since(work: Path, part_rows: int) -> dict[str, Any]:
    """Score the changed pairs, all of them and since the first job."""
    change_catalogue(work, np.random.default_rng(0))
    found: dict[str, Any] = {}
    for name, earlier in (("whole", None), ("since", work / "peace")):
        shutil.rmtree(work / name, ignore_errors=True)
        job = ScoringJob.load(work / "run", work / "changed", work / name, chunk_rows=part_rows, since=earlier)
        timed = Timed(job.scorer)
        object.__setattr__(job, "scorer", timed)
        began = time.process_time()
        job.run_shard()
        found[name] = {
            "pairs_computed": timed.pairs,
            "seconds_of_texts_and_model": round(timed.seconds, 2),
            "seconds_in_all": round(time.process_time() - began, 2),
        }
    share = found["since"]["seconds_of_texts_and_model"] / found["whole"]["seconds_of_texts_and_model"]
    computed = found["since"]["pairs_computed"] / found["whole"]["pairs_computed"]
    return found | {"share_of_the_whole": round(share, 4), "share_of_pairs": round(computed, 4)}


def main() -> None:
    """Kill, compare, change, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--part-rows", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="where all is kept; a folder that is removed, if not given")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "shards.json")
    given = parser.parse_args()
    import_once("prepare", "train")
    with tempfile.TemporaryDirectory(prefix="shards-") as temporary:
        work = (given.work or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        make(work, given.pairs)
        shutil.rmtree(work / "peace", ignore_errors=True)
        began = time.monotonic()
        if status := ended(start(work, arguments("peace", given.part_rows))):
            raise SystemExit(f"the peaceful run ended with {status}: {(work / 'log').read_text()[-500:]}")
        seconds = time.monotonic() - began
        killed = kill_often(work, given.part_rows, given.kills, seconds / 2, random.Random(given.seed))
        result = {
            "what": "kills over four shards of one job, and one product in a hundred changed",
            "command": command_as_given("shards.py"),
            "pairs": given.pairs,
            "shards": SHARDS,
            "seconds_in_peace": round(seconds, 1),
            "goals": GOAL,
            "kills": killed,
            "changed": since(work, given.part_rows),
            "shop": SHOP,
            "settings": SETTINGS,
            **circumstances("zhichun", "torch", "pyarrow"),
        }
    write_json(given.out, result)
    print(f"{killed['kills']} kills, {len(killed['faults'])} faults; {result['changed']}")
    sys.exit(1 if killed["faults"] else 0)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
