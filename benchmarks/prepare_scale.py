"""Prepare a shop of the size of the Shopping Queries Dataset: memory, time, and time against the plain way.

    python benchmarks/prepare_scale.py

makes 1,814,924 products and about 2.6 million judged pairs with texts as long as the real ones, prepares them with
their vocabularies in a process of its own, does the same with a tenth, and prepares 50,000 pairs both with
`zhichun prepare` and with `benchmarks/plain_prepare.py`, whose tables must be equal. It needs `pip install
'zhichun[bench]'` and 10 GB of disk, and writes `benchmarks/results/prepare_scale.json`.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
from child import run_child
from machine import circumstances
from plain_prepare import plain_prepare

from zhichun.core import schema
from zhichun.core.files import read_json, write_json
from zhichun.data.prepare.prepare import prepare
from zhichun.data.sample_shop import write_sample_shop

RESULT = Path(__file__).parent / "results" / "prepare_scale.json"
# Of the real set.
PRODUCTS = 1_814_924
PAIRS = 2_621_288
# What a query of the sample is judged with on average; asking for 20 gives a little more.
PAIRS_OF_A_QUERY = 20.06
COMPARED_PAIRS = 50_000
REPEATS = 3
GOALS = {"peak_gib": 8, "minutes": 15, "cost_ratio": 1.2, "times_faster": 10}
# What runs in a process of its own, so that its memory is that of preparing alone.
CHILD = """
import json, sys, time
from pathlib import Path
from zhichun.data.prepare.prepare import prepare
from zhichun.data.prepare.making import Rebalance
shop, out, balance = sys.argv[1:]
begun, ends = time.perf_counter(), {}
def progress(stage, done, total):
    ends[stage] = round(time.perf_counter() - begun, 1)
prepare(Path(shop), Path(out), steps=[Rebalance()] if balance else [], progress=progress)
Path(out, "stages.json").write_text(json.dumps({**ends, "all": round(time.perf_counter() - begun, 1)}))
"""


def main() -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0, help="how much of the full size")
    parser.add_argument("--balance", action="store_true", help="with class balance")
    parser.add_argument("--folder", type=Path, help="where there is room; the system's temporary folder if not given")
    parser.add_argument("--out", type=Path, default=RESULT, help="JSON file to write")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder, prefix="prepare-scale-") as name:
        tenth = measure(Path(name, "tenth"), given.share / 10, given.balance)
        full = measure(Path(name, "full"), given.share, given.balance)
        compared = compare(Path(name))
    result = {
        "command": "python " + " ".join(["benchmarks/prepare_scale.py", *sys.argv[1:]]),
        **circumstances("zhichun", "polars", "pyarrow", "numpy", "pandas"),
        "goals": GOALS,
        "full": full,
        "tenth": tenth,
        "cost_per_row_full_to_tenth": {
            clock: round(full["microseconds_per_row"][clock] / tenth["microseconds_per_row"][clock], 3)
            for clock in ("wall", "cpu")
        },
        "against_pandas_and_python": compared,
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(given.out, result)
    print(json.dumps(result, indent=2))


def measure(folder: Path, share: float, balance: bool) -> dict[str, Any]:
    """Make a shop, prepare it in a process of its own, and say what that took."""
    shop, out = folder / "shop", folder / "data"
    products, queries = round(PRODUCTS * share), round(PAIRS * share / PAIRS_OF_A_QUERY)
    print(f"making {products:,} products", flush=True)
    write_sample_shop(shop, products=products, queries=queries, candidates=20.0, text="esci")
    print("preparing them", flush=True)
    load, begun = os.getloadavg()[0], time.perf_counter()
    _, peak_kib, usage = run_child(CHILD, shop, out, "balance" if balance else "")
    seconds = {"wall": time.perf_counter() - begun, "cpu": usage.ru_utime + usage.ru_stime}
    manifest = read_json(out / "manifest.json")
    rows = manifest["products"]["kept"] + manifest["examples"]["kept"]
    return {
        "products": manifest["products"]["kept"],
        "pairs": manifest["examples"]["kept"],
        "made_pairs": manifest["examples"]["made"],
        "vocabulary": manifest["vocabulary"],
        "mean_characters": mean_characters(shop / schema.OFFICIAL_PRODUCTS_FILE),
        "megabytes": {each.name: round(sum(f.stat().st_size for f in each.rglob("*.*")) / 1e6) for each in (shop, out)},
        "peak_gib": round(peak_kib / 2**20, 2),
        "seconds": {clock: round(taken, 1) for clock, taken in seconds.items()},
        "microseconds_per_row": {clock: round(taken / rows * 1e6, 2) for clock, taken in seconds.items()},
        "load_of_the_machine_before": round(load, 1),
        "stages_end_at_second": read_json(out / "stages.json"),
    }


def mean_characters(products: Path) -> dict[str, int]:
    """Say how long the texts are, where there are any."""
    totals = {name: [0, 0] for name in (schema.TITLE, schema.BULLETS, schema.DESCRIPTION)}
    for batch in pq.ParquetFile(products).iter_batches(columns=list(totals)):
        for name, total in totals.items():
            lengths = pc.utf8_length(batch.column(name).drop_null())
            total[0] += len(lengths)
            total[1] += pc.sum(lengths).as_py() or 0
    return {name: round(characters / rows) for name, (rows, characters) in totals.items()}


def compare(folder: Path) -> dict[str, Any]:
    """Prepare the same pairs both ways, in turns, and hold the tables against each other."""
    shop, ours, plain = folder / "compared", folder / "ours", folder / "plain"
    write_sample_shop(
        shop, products=round(PRODUCTS * COMPARED_PAIRS / PAIRS), queries=2_600, candidates=20.0, text="esci"
    )
    examples = shop / schema.OFFICIAL_EXAMPLES_FILE
    pq.write_table(pq.read_table(examples)[:COMPARED_PAIRS], examples)
    seconds: dict[str, list[dict[str, float]]] = {"zhichun": [], "plain": []}
    for _ in range(REPEATS):
        seconds["zhichun"].append(timed(lambda: prepare(shop, ours, overwrite=True)))
        seconds["plain"].append(timed(lambda: plain_prepare(shop, plain)))
    check_equal(ours, plain)
    medians = {
        name: {clock: round(statistics.median(each[clock] for each in taken), 2) for clock in ("wall", "cpu")}
        for name, taken in seconds.items()
    }
    faster = {clock: round(medians["plain"][clock] / medians["zhichun"][clock], 1) for clock in ("wall", "cpu")}
    return {"pairs": COMPARED_PAIRS, "repeats": REPEATS, "seconds": medians, "times_faster": faster, "equal": True}


def timed(work: Callable[[], object]) -> dict[str, float]:
    """Call something and take its time."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def check_equal(ours: Path, plain: Path) -> None:
    """Stop unless both wrote the same rows."""
    folders = {"products": "", "examples": "", "brands": "vocabulary", "colors": "vocabulary", "trigrams": "vocabulary"}
    for name, part in folders.items():
        table = pq.read_table(ours / part / f"{name}.parquet")
        other = pq.read_table(plain / f"{name}.parquet").select(table.column_names).cast(table.schema)
        if not table.equals(other):
            raise SystemExit(f"the two ways give different {name}")


if __name__ == "__main__":
    main()
