"""Whether scoring keeps its pace and its memory, from ten thousand pairs to a million.

    python benchmarks/scaling.py [--work FOLDER] [--pairs 10000 100000 1000000] [--engine auto]

Trains a small tiny recipe on a sample shop, exports it, and lets `zhichun score` read files of more and more pairs of
queries and product ids, with the catalogue looked up by ``--products``: each in a process of its own, whose seconds are
those of the job without loading the model, and whose memory is its highest. The shop stays the same, so what grows is
the file alone. What is trained and exported is kept in the work folder. Writes ``benchmarks/results/scaling.json``.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from machine import machine, versions

from zhichun import schema
from zhichun.data.dataset import Dataset, read_parquet
from zhichun.data.prepare import prepare
from zhichun.data.sample_shop import write_sample_shop
from zhichun.export import export
from zhichun.files import write_json
from zhichun.recipe import load_recipe
from zhichun.training import train

HERE = Path(__file__).parent
SIZES = (10_000, 100_000, 1_000_000)
SHOP = {"products": 20_000, "queries": 400, "seed": 0}
SETTINGS = (
    "model.tiny.layers=2",
    "model.tiny.hidden=64",
    "model.tiny.matching_layers=1",
    "model.max_length=48",
    "train.epochs=1",
)
# Throughput of the largest file beside that of the smallest, and its memory beside the middle one's.
GOALS = {"throughput": 0.9, "memory": 1.1}
CHILD = """
import json, sys, time
from pathlib import Path
model, pairs, out, products, engine = sys.argv[1:]
began = time.perf_counter()
from zhichun.scoring.load import load_scorer
from zhichun.scoring.scoring_job import ScoringJob
scorer = load_scorer(Path(model), engine=engine)
loaded = time.perf_counter()
job = ScoringJob(scorer=scorer, pairs=Path(pairs), out=Path(out), model_fingerprint=engine, catalogue=Path(products))
rows = job.run()
seconds = {"loading": loaded - began, "scoring": time.perf_counter() - loaded}
# Of this program alone: what the system tells of a child that ended counts the parent's memory, from before it began.
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"rows": rows, "engine": scorer.engine_name, "seconds": seconds, "peak_kib": int(peak)}))
"""


def make(work: Path) -> tuple[Path, Path]:
    """Make shop, run and export, as far as they are not there; gives the dataset folder and the export."""
    data, run, exported = work / "data", work / "run", work / "export"
    if not data.is_dir():
        write_sample_shop(work / "shop", **SHOP, overwrite=True)
        prepare(work / "shop", data)
    train(load_recipe("tiny").with_settings(SETTINGS), data, run, resume=True)
    if not exported.is_dir():
        export(run, ["onnx", "onnx-int8", "openvino", "openvino-int8"], out=exported)
    return data, exported


def write_pairs(data: Path, count: int, path: Path) -> None:
    """Write so many pairs of the shop: the queries in turn, each with products of its locale drawn at random."""
    dataset = Dataset.open(data)
    catalogue = read_parquet(data / schema.PRODUCTS_FILE, columns=[schema.PRODUCT_ID, schema.LOCALE])
    locales = catalogue.column(schema.LOCALE).to_numpy()
    chance = np.random.default_rng(0)
    query_texts, first = np.unique(dataset.query_row, return_index=True)
    each = -(-count // len(query_texts))
    drawn = [
        chance.choice(np.flatnonzero(locales == locale), each)
        for locale in dataset.column(schema.LOCALE)[first]
    ]  # fmt: skip
    products = pa.array(np.concatenate(drawn)[:count])
    pq.write_table(
        pa.table(
            {
                "query": dataset.queries.take(pa.array(np.repeat(query_texts, each)[:count])),
                "product_id": catalogue.column(schema.PRODUCT_ID).take(products),
                "locale": catalogue.column(schema.LOCALE).take(products),
            }
        ),
        path,
    )


def measure(exported: Path, data: Path, pairs: Path, engine: str) -> dict[str, Any]:
    """Score a file in a process of its own; gives its pairs per second and its highest memory."""
    out = pairs.with_name("scored.parquet")
    command = [sys.executable, "-c", CHILD, *map(str, (exported, pairs, out, data)), engine]
    load, process = os.getloadavg()[0], subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"scoring ended with status {status}")
    found = json.loads(said.splitlines()[-1])
    assert pq.read_metadata(out).num_rows == found["rows"] == pq.read_metadata(pairs).num_rows
    out.unlink()
    return {
        "pairs": found["rows"],
        "engine": found["engine"],
        "pairs_per_second": round(found["rows"] / found["seconds"]["scoring"], 1),
        "seconds": {name: round(seconds, 2) for name, seconds in found["seconds"].items()},
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mib": round(found["peak_kib"] / 1024),
        "load_of_the_machine_before": round(load, 1),
    }


def compare(sizes: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Hold the largest file against the others."""
    smallest, *middle, largest = sizes
    before = middle[-1] if middle else smallest
    return {
        "throughput": round(largest["pairs_per_second"] / smallest["pairs_per_second"], 3),
        "memory": round(largest["peak_mib"] / before["peak_mib"], 3),
    }


def main() -> None:
    """Measure, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=HERE / "work" / "scaling", help="where all is kept")
    parser.add_argument("--pairs", type=int, nargs="+", default=SIZES, help="sizes of the files, the smallest first")
    parser.add_argument("--engine", default="auto", help="as for `zhichun score`")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "scaling.json")
    given = parser.parse_args()
    data, exported = make(given.work)
    found = []
    for count in given.pairs:
        pairs = given.work / "pairs.parquet"
        write_pairs(data, count, pairs)
        found.append(measure(exported, data, pairs, given.engine))
        print(json.dumps(found[-1]), flush=True)
    result = {
        "what": "scoring more and more pairs of a sample shop",
        "command": " ".join(["python benchmarks/scaling.py", *sys.argv[1:]]),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "versions": versions("zhichun", "onnxruntime", "openvino", "numpy", "pyarrow"),
        "shop": SHOP,
        "settings": SETTINGS,
        "sizes": found,
        "largest_beside_the_others": compare(found),
        "goals": GOALS,
    }
    write_json(given.out, result)


if __name__ == "__main__":
    main()
