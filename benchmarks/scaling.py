"""Whether scoring keeps its pace and its memory, from ten thousand pairs to a million, whoever shares the work.

    python benchmarks/scaling.py [--work FOLDER] [--sizes 10000 100000 1000000] [--ways file shards-1 ray …]

Trains a very small tiny recipe on a sample shop, exports it, and scores files of more and more pairs:

* ``file``: with their texts, by one process into one file, as `zhichun score` does;
* ``shards-1``, ``shards-2``: the same into a folder, by one and by two processes (``--shard``);
* ``ray``: the same by two actors (``--ray``), on a cluster of this machine alone;
* ``texts``, ``index``: with ids, by a model that reads query and product apart, into a folder by one process; products
  are looked up in the catalogue (``--products``), or their states in an index of it.

Each process and actor has one thread. The pace is that from when each has made a part to the last part, so loading is
left out (of ``file``, it is that of the job), and memory is the highest of a process. The shop stays the same, so what
grows is the file alone. The model is so small that reading files and texts weighs as much as computing: what grows
would show. All that was made and measured is kept in the work folder, and not made again. Writes
``benchmarks/results/scaling.json``.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from child import run_child
from machine import circumstances, command_as_given

from zhichun.core import schema
from zhichun.core.files import read_json, write_json
from zhichun.data.dataset import Dataset, read_parquet
from zhichun.data.prepare.prepare import prepare
from zhichun.data.sample_shop import write_sample_shop
from zhichun.fit.recipe import load_recipe
from zhichun.fit.train import train
from zhichun.score.engine import MEASURE
from zhichun.score.export.export_run import export
from zhichun.score.index.build import build_index
from zhichun.score.scorer import load_scorer

HERE = Path(__file__).parent
SIZES = (10_000, 100_000, 1_000_000)
# So many products that a chunk hardly has one twice, whatever the size of the file.
SHOP = {"products": 100_000, "queries": 400, "seed": 0}
SETTINGS = (
    "model.tiny.layers=1",
    "model.tiny.hidden=32",
    "model.tiny.heads=2",
    "model.tiny.matching_layers=null",
    "model.max_length=24",
    "train.epochs=1",
)
SPLIT = ('model.interaction={"kind": "Split", "product_layers": 1, "query_tokens": 12}', "model.tiny.layers=2")
FORMATS = ("onnx", "onnx-int8", "openvino", "openvino-int8")
WRITTEN_AT_ONCE = 100_000
PART_ROWS = 1000
# Throughput of the largest file beside that of the smallest, before and after it; its memory beside the middle one's.
GOALS = {"throughput": 0.9, "memory": 1.1}
CHILD = """
import json, sys, time
from pathlib import Path
model, pairs, out, engine = sys.argv[1:]
began = time.perf_counter()
from zhichun.score.scorer import load_scorer
from zhichun.score.job import ScoringJob
scorer = load_scorer(Path(model), engine=engine)
loaded = time.perf_counter()
rows = ScoringJob(scorer=scorer, pairs=Path(pairs), out=Path(out), model_fingerprint=engine).run()
seconds = {"loading": loaded - began, "scoring": time.perf_counter() - loaded}
print(json.dumps({"rows": rows, "engine": scorer.engine_name, "seconds": seconds}))
"""
SHARD = """
import sys
from pathlib import Path
from zhichun.score.job import ScoringJob
from zhichun.score.parts import Shard
model, pairs, out, engine, rows, shard, *products = sys.argv[1:]
options = {"chunk_rows": int(rows), "catalogue": Path(products[0]) if products else None}
ScoringJob.load(Path(model), Path(pairs), Path(out), engine=engine, **options).run_shard(Shard.parse(shard))
"""
ON_RAY = """
import sys
from pathlib import Path
from zhichun.score.on_ray import score_on_ray
model, pairs, out, engine, rows = sys.argv[1:]
options = {"run": Path(model), "pairs": Path(pairs), "out": Path(out), "engine": engine, "chunk_rows": int(rows)}
score_on_ray("local", options)
"""
ACTOR = "ray::MapWorker"
WAYS = ("file", "shards-1", "shards-2", "ray", "texts", "index")
WORKERS = {"shards-2": 2, "ray": 2}


def make(work: Path) -> Mapping[str, Path]:
    """Make shop, runs, exports and index, as far as they are not there; gives their folders by name."""
    folders = {name: work / name for name in ("data", "run", "export", "split", "split-export", "index")}
    data = folders["data"]
    if not data.is_dir():
        write_sample_shop(work / "shop", **SHOP, overwrite=True)
        prepare(work / "shop", data)
    for run, exported, own in (("run", "export", ()), ("split", "split-export", SPLIT)):
        train(load_recipe("tiny").with_settings([*SETTINGS, *own]), data, folders[run], resume=True)
        if not folders[exported].is_dir():
            export(folders[run], FORMATS[:1] if own else FORMATS, out=folders[exported])
    build_index(folders["split-export"], read_parquet(data / schema.PRODUCTS_FILE), folders["index"], engine="onnx")
    return folders


def write_pairs(data: Path, count: int, path: Path, *, texts: bool) -> None:
    """Write so many pairs of the shop: queries drawn at random, each with a product of its locale.

    Parameters
    ----------
    data
        Dataset folder.
    count
        Pairs.
    path
        Parquet file to write.
    texts
        Whether the products' texts stand beside their ids.
    """
    dataset, chance = Dataset.open(data), np.random.default_rng(0)
    catalogue = read_parquet(data / schema.PRODUCTS_FILE)
    locales = catalogue.column(schema.LOCALE).to_numpy()
    _, examples = np.unique(dataset.query_row, return_index=True)
    drawn = examples[chance.integers(len(examples), size=count)]
    products = np.zeros(count, np.int64)
    for locale in schema.LOCALES:
        here = np.flatnonzero(dataset.column(schema.LOCALE)[drawn] == locale)
        products[here] = chance.choice(np.flatnonzero(locales == locale), len(here))
    columns = [schema.PRODUCT_ID, schema.LOCALE, *(schema.TEXT_COLUMNS if texts else ())]
    queries = dataset.queries.take(pa.array(dataset.query_row[drawn]))
    with ExitStack() as stack:
        writer = None
        for start in range(0, count, WRITTEN_AT_ONCE):
            table = catalogue.select(columns).take(pa.array(products[start : start + WRITTEN_AT_ONCE]))
            table = table.append_column(schema.QUERY, queries.slice(start, WRITTEN_AT_ONCE))
            writer = writer or stack.enter_context(pq.ParquetWriter(path, table.schema))
            writer.write_table(table)


def in_one_file(exported: Path, pairs: Path, engine: str) -> dict[str, Any]:
    """Score a file in a process of its own; gives its pairs per second and its highest memory."""
    out = pairs.with_name("scored.parquet")
    said, peak_kib, usage = run_child(CHILD, exported, pairs, out, engine)
    found = json.loads(said[-1])
    assert pq.read_metadata(out).num_rows == found["rows"] == pq.read_metadata(pairs).num_rows
    out.unlink()
    return {
        "pairs_per_second": round(found["rows"] / found["seconds"]["scoring"], 1),
        "seconds": {name: round(seconds, 2) for name, seconds in found["seconds"].items()},
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mib": round(peak_kib / 1024),
    }


def pace(out: Path, workers: int) -> float:
    """Pairs a second from when each worker has made a part to the last of all; each begins with another shard."""
    records = [read_json(path)["parts"] for path in out.glob("_shards/*.json")]
    made = [{name: (out / name).stat().st_mtime for name in parts} for parts in records]
    begun, last = sorted(min(of.values()) for of in made if of)[workers - 1], max(max(of.values()) for of in made if of)
    rows = [parts[name][0] for parts, of in zip(records, made, strict=True) for name in parts if of[name] > begun]
    return sum(rows) / max(last - begun, 1e-9)


def by_shards(given: Sequence[object], shards: int, products: Sequence[Path]) -> int:
    """Score by so many processes at once; gives the highest memory of one."""
    with ThreadPoolExecutor(shards) as pool:
        calls = [(SHARD, *given, f"{shard}/{shards}", *products) for shard in range(shards)]
        return max(peak for _, peak, _ in pool.map(lambda call: run_child(*call), calls)) >> 10


def memory_of_actors() -> dict[int, int]:
    """Highest memory of each actor on this machine until now, by its process."""
    found = {}
    for each in psutil.process_iter():
        with suppress(psutil.Error, OSError, StopIteration):
            if ACTOR in " ".join(each.cmdline()):
                lines = Path(f"/proc/{each.pid}/status").read_text().splitlines()
                found[each.pid] = int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) >> 10
    return found


def by_ray(given: Sequence[object]) -> int:
    """Score on a cluster of this machine; gives the highest memory of an actor."""
    driver, seen = subprocess.Popen([sys.executable, "-c", ON_RAY, *map(str, given)]), dict[int, int]()
    while driver.poll() is None:
        seen |= memory_of_actors()
        time.sleep(0.5)
    if driver.returncode:
        raise SystemExit(f"the driver ended with status {driver.returncode}")
    return max(seen.values(), default=0)


def in_a_folder(way: str, folders: Mapping[str, Path], pairs: Path, count: int, engine: str) -> dict[str, Any]:
    """Score into a folder of parts; gives pairs per second and the highest memory of a process."""
    out, model = pairs.with_name("scored"), folders["split-export" if way in ("texts", "index") else "export"]
    shutil.rmtree(out, ignore_errors=True)
    given = (model, pairs, out, "onnx" if way in ("texts", "index") else engine, PART_ROWS)
    products = {"texts": [folders["data"]], "index": [folders["index"]]}.get(way, [])
    peak = by_ray(given) if way == "ray" else by_shards(given, WORKERS.get(way, 1), products)
    assert read_json(out / "_SUCCESS")["rows"] == count
    return {"pairs_per_second": round(pace(out, WORKERS.get(way, 1)), 1), "peak_mib": peak}


def measure_all(work: Path, sizes: Sequence[int], ways: Sequence[str], engine: str) -> dict[str, Any]:
    """Score files of all sizes in all ways, as far as it was not done before; gives the engine too."""
    folders, pairs, kept = make(work), work / "pairs.parquet", work / "measured.json"
    found: dict[str, Any] = read_json(kept) if kept.is_file() else {}
    # Once, so that all are scored by the same.
    engine = found.setdefault("engine", load_scorer(folders["export"], engine=engine).engine_name)

    def measured(way: str, count: int) -> dict[str, Any]:
        write_pairs(folders["data"], count, pairs, texts=way not in ("texts", "index"))
        load = round(os.getloadavg()[0], 1)
        one = in_one_file(folders["export"], pairs, engine) if way == "file" else None
        one = one or in_a_folder(way, folders, pairs, count, engine)
        return {**one, "pairs": count, "load_of_the_machine_before": load}

    for way in ways:
        cells = found.setdefault(way, {})
        for count in sizes:
            if cells.get(str(count)):
                continue
            cells[str(count)] = measured(way, count)
            if count == sizes[-1]:  # the machine may be another by then
                cells[str(sizes[0])]["pairs_per_second_after"] = measured(way, sizes[0])["pairs_per_second"]
            write_json(kept, found)
            print(way, json.dumps(cells[str(count)]), flush=True)
    rows = {way: [found[way][str(count)] for count in sizes if str(count) in found[way]] for way in ways}
    flat = {way: compare(of) for way, of in rows.items() if len(of) > 1}
    return {"engine": engine, "ways": rows, "largest_beside_the_others": flat}


def compare(sizes: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Hold the largest file against the others."""
    smallest, *middle, largest = sizes
    before = middle[-1] if middle else smallest
    paces = [smallest[name] for name in ("pairs_per_second", "pairs_per_second_after") if name in smallest]
    return {
        "throughput": round(largest["pairs_per_second"] * len(paces) / sum(paces), 3),
        "memory": round(largest["peak_mib"] / before["peak_mib"], 3),
    }


def main() -> None:
    """Measure, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=HERE / "work" / "scaling", help="where all is kept")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="pairs of the files, the fewest first")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS, help="who scores, and from what")
    parser.add_argument("--engine", default=MEASURE, help="as for `zhichun score`")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "scaling.json")
    given = parser.parse_args()
    if len(given.sizes) < 2:
        parser.error("--sizes must be two or more, to be compared")
    result = {
        "what": "scoring more and more pairs of a sample shop",
        "command": command_as_given("scaling.py"),
        **circumstances("zhichun", "onnxruntime", "openvino", "ray", "numpy", "pyarrow"),
        "shop": SHOP,
        "settings": SETTINGS,
        "goals": GOALS,
        "part_rows": PART_ROWS,
        **measure_all(given.work, given.sizes, given.ways, given.engine),
    }
    write_json(given.out, result)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    main()
