"""Keeping an index up to date: what a small change of the catalogue costs, and whether kills change a byte.

    python benchmarks/index_updates.py --products 5000 --kills 0 --encoder sentence-transformers/all-MiniLM-L6-v2
    python benchmarks/index_updates.py --products 100000 --kills 20

Without kills, a catalogue of made-up products is indexed, one hundredth of it is changed, and the index is brought up
to date. What both take is measured in seconds of the CPU, without reading tables, loading the model and starting a
process. With kills, the catalogue is indexed in peace and again in processes that are killed (SIGKILL) at random
moments, until one is left alone; its files must be those of the run in peace, byte for byte. The model is the tiny one,
untrained, unless an encoder is named. Writes ``index_updates.json`` or ``index_kills.json`` into the results.
"""

import argparse
import os
import random
import shutil
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
from zhichun.data.dataset import Dataset, read_parquet
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
    """Bring an index up to date; gives the CPU's seconds without loading the model, and the products computed."""
    began = time.process_time()
    load_network(run, "cpu", "torch")
    loaded = time.process_time()
    made = build_index(run, table, index)
    return time.process_time() - loaded - (loaded - began), made.computed


def survive(command: list[str], kills: int, idle: float, work: float) -> int:
    """Run a command again and again, killed at random moments of its work, and at last to its end; gives the kills."""
    chance, done = random.Random(0), 0
    while done < kills:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            status = process.wait(idle + chance.uniform(0, 0.8) * work / kills)
        except subprocess.TimeoutExpired:
            process.kill()
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
    parser.add_argument("--out", type=Path, help="default: in results")
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
    measure = killed if arguments.kills else changes
    result: dict[str, Any] = {
        "what": "an index is brought up to date, or made by runs that are killed",
        "command": f"python benchmarks/index_updates.py --products {arguments.products} --kills {arguments.kills}",
        **circumstances("zhichun", "torch", "numpy", "pyarrow"),
        "encoder": arguments.encoder or "tiny",
        "products": arguments.products,
        **measure(run, table, work, arguments.kills),
    }
    write_json(arguments.out or HERE / "results" / f"index_{'kills' if arguments.kills else 'updates'}.json", result)
    sys.exit(1 if result.get("differ") or result.get("left_over") else 0)


def changes(run: Path, table: pa.Table, work: Path, _: int) -> dict[str, Any]:
    """Index a catalogue, change a part of it and bring the index up to date."""
    load_network(run, "cpu", "torch")  # what is imported once is imported here
    whole, computed = updated(run, table, work / "index")
    print(f"{computed:,} products in {whole:.1f} s", flush=True)
    part, again = updated(run, changed(table, CHANGED), work / "index")
    print(f"{again:,} changed: {part:.2f} s, {100 * part / whole:.2f} % of the whole", flush=True)
    return {"cpu_seconds": {"whole": whole, "changed": part}, "changed": again, "share": part / whole, "goal": GOAL}


def killed(run: Path, table: pa.Table, work: Path, count: int) -> dict[str, Any]:
    """Index a catalogue in peace, and in processes that are killed."""
    pq.write_table(table, work / "catalogue.parquet")
    command = [sys.executable, "-m", "zhichun", "index", str(run), "--products", str(work / "catalogue.parquet")]
    out = work / "killed"
    seconds = []
    for _ in range(2):  # the second call finds everything there: it starts, reads and ends
        began = time.perf_counter()
        subprocess.run([*command, "--out", str(work / "peace")], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - began)
    alone, idle = seconds
    kills = survive([*command, "--out", str(out)], count, idle, max(0.0, alone - idle))
    faults = differing(work / "peace", out)
    left = [path.name for path in out.iterdir() if "partial" in path.name]
    print(f"{kills} kills; {len(faults)} files differ; left over: {left}", flush=True)
    return {"kills": kills, "shards": len(shard_folders(out)), "differ": faults, "left_over": left}


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
