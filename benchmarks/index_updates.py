"""Keeping an index up to date: what a small change of the catalogue costs, and whether kills change a byte.

    python benchmarks/index_updates.py [--products 100000] [--kills 20] [--encoder NAME]

A catalogue of made-up products is indexed in peace; then one hundredth of it is changed and it is brought up to date.
What both take is measured without reading tables, loading the model and starting a process. Then the first catalogue
is indexed again, in processes that are killed (SIGKILL) at random moments, until one is left alone; its files must be
those of the run in peace, byte for byte. The model is the tiny one, untrained, unless an encoder is named. Writes
``benchmarks/results/index_updates.json``.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from kills import differing
from machine import circumstances
from score_catalogue import untrained
from score_cpu import OFF, PLAIN
from serve_models import shop

from zhichun.core import schema
from zhichun.core.files import write_json
from zhichun.data.dataset.dataset import Dataset, read_parquet
from zhichun.fit.recipe import load_recipe
from zhichun.score.index.build import build_index
from zhichun.score.index.network import load_network
from zhichun.score.index.store import shard_folders

HERE = Path(__file__).parent
CHANGED, GOAL = 0.01, 0.015
SPLIT = '{"kind": "Split", "product_layers": 1, "query_tokens": 16}'


def catalogue_of(data: Path, count: int) -> pa.Table:
    """Make so many products of those of a dataset, no two with the same texts."""
    given = read_parquet(data / schema.PRODUCTS_FILE)
    table = given.take(pa.array(np.arange(count) % given.num_rows))
    numbers = [str(number) for number in range(count)]
    titles = [f"{number} {title}" for number, title in zip(numbers, table[schema.TITLE].to_pylist(), strict=True)]
    for name, column in ((schema.PRODUCT_ID, numbers), (schema.TITLE, titles)):
        place = table.column_names.index(name)
        table = table.set_column(place, table.schema.field(place), pa.array(column, table.schema.field(place).type))
    return table


def changed(table: pa.Table, share: float) -> pa.Table:
    """Change the titles of some products, drawn by chance."""
    titles = table[schema.TITLE].to_pylist()
    for row in np.random.default_rng(0).choice(len(titles), round(share * len(titles)), replace=False).tolist():
        titles[row] += " anew"
    place = table.column_names.index(schema.TITLE)
    return table.set_column(place, table.schema.field(place), pa.array(titles, table.schema.field(place).type))


def updated(run: Path, table: pa.Table, index: Path) -> tuple[float, int]:
    """Bring an index up to date; gives the seconds without loading the model, and the products computed."""
    began = time.perf_counter()
    load_network(run, "cpu", "torch")
    loaded = time.perf_counter()
    made = build_index(run, table, index)
    return time.perf_counter() - loaded - (loaded - began), made.computed


def survive(command: list[str], kills: int, seconds: float) -> int:
    """Run a command again and again, killed at random moments, and at last to its end; gives the kills."""
    chance, done = random.Random(0), 0
    while done < kills:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            status = process.wait(chance.uniform(0.5, 1.5) * seconds / kills)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            done += 1
        else:
            if status:
                raise SystemExit(f"{' '.join(command)} ended with {status}")
            break
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return done


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--products", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--encoder", help="name or folder of an encoder; the tiny one if not given")
    parser.add_argument("--split", default=SPLIT, help="model.interaction, as JSON")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the recipe")
    parser.add_argument("--work", type=Path, default=HERE / "work" / "index_updates")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "index_updates.json")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    work = arguments.work
    shutil.rmtree(work, ignore_errors=True)
    data = shop(work)
    encoder = [f"model.encoder={arguments.encoder}"] if arguments.encoder else []
    settings = [*encoder, *PLAIN, *OFF, f"model.interaction={arguments.split}", *arguments.set]
    run = work / "run"
    untrained(load_recipe("tiny").with_settings(settings), Dataset.open(data), run)
    table = catalogue_of(data, arguments.products)
    whole, computed = updated(run, table, work / "index")
    print(f"{computed:,} products in {whole:.1f} s", flush=True)
    shutil.copytree(work / "index", work / "changed")
    part, again = updated(run, changed(table, CHANGED), work / "changed")
    print(f"{again:,} changed: {part:.2f} s, {100 * part / whole:.2f} % of the whole", flush=True)
    pq.write_table(table, work / "catalogue.parquet")
    command = [sys.executable, "-m", "zhichun", "index", str(run), "--products", str(work / "catalogue.parquet")]
    out = work / "killed"
    began = time.perf_counter()
    subprocess.run([*command, "--out", str(work / "peace")], check=True, stdout=subprocess.DEVNULL)
    alone = time.perf_counter() - began
    kills = survive([*command, "--out", str(out)], arguments.kills, 2 * alone)
    faults = differing(work / "peace", out)
    left = [path.name for path in out.iterdir() if "partial" in path.name]
    print(f"{kills} kills; {len(faults)} files differ; left over: {left}", flush=True)
    result: dict[str, Any] = {
        "what": "an index is brought up to date, and made by runs that are killed",
        "command": " ".join(["python benchmarks/index_updates.py", f"--products {arguments.products}"]),
        **circumstances("zhichun", "torch", "numpy", "pyarrow"),
        "encoder": arguments.encoder or "tiny",
        "products": arguments.products,
        "shards": len(shard_folders(out)),
        "seconds": {"whole": whole, "changed": part},
        "changed": {"products": again, "share_of_the_time": part / whole, "goal": GOAL},
        "kills": {"kills": kills, "differ": faults, "left_over": left},
    }
    write_json(arguments.out, result)
    sys.exit(1 if faults or left else 0)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
