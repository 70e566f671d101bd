"""Whether scoring keeps its pace and its memory, from ten thousand pairs to a million.

    python benchmarks/scaling.py [--work FOLDER] [--sizes 10000 100000 1000000] [--engine measure]

Trains a very small tiny recipe on a sample shop, exports it, and scores files of more and more pairs with their texts,
as `zhichun score` does; the middle one also with ids alone, for which the catalogue is looked up (``--products``). Each
is scored by a process of its own, whose seconds are those of the job without loading the model, and whose memory is its
highest. The shop stays the same, so what grows is the file alone. The model is so small that reading files and texts
weighs as much as computing: what grows would show. What is trained and exported is kept in the work folder. Writes
``benchmarks/results/scaling.json``.
"""

import argparse
import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from child import run_child
from machine import circumstances, command_as_given

from zhichun.core import schema
from zhichun.core.files import write_json
from zhichun.data.dataset.dataset import Dataset, read_parquet
from zhichun.data.prepare.prepare import prepare
from zhichun.data.sample_shop import write_sample_shop
from zhichun.fit.recipe import load_recipe
from zhichun.fit.train import train
from zhichun.score.engines.engine import MEASURE
from zhichun.score.export.export_run import export
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
WRITTEN_AT_ONCE = 100_000
# Throughput of the largest file beside that of the smallest, and its memory beside the middle one's.
GOALS = {"throughput": 0.9, "memory": 1.1}
CHILD = """
import json, sys, time
from pathlib import Path
model, pairs, out, engine, *products = sys.argv[1:]
began = time.perf_counter()
from zhichun.score.scorer import load_scorer
from zhichun.score.job import ScoringJob
scorer = load_scorer(Path(model), engine=engine)
loaded = time.perf_counter()
catalogue = Path(products[0]) if products else None
job = ScoringJob(scorer=scorer, pairs=Path(pairs), out=Path(out), model_fingerprint=engine, catalogue=catalogue)
rows = job.run()
seconds = {"loading": loaded - began, "scoring": time.perf_counter() - loaded}
print(json.dumps({"rows": rows, "engine": scorer.engine_name, "seconds": seconds}))
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


def measure(exported: Path, pairs: Path, engine: str, catalogue: Path | None = None) -> dict[str, Any]:
    """Score a file in a process of its own; gives its pairs per second and its highest memory."""
    out = pairs.with_name("scored.parquet")
    load = os.getloadavg()[0]
    said, peak_kib, usage = run_child(CHILD, exported, pairs, out, engine, *([catalogue] if catalogue else []))
    found = json.loads(said[-1])
    assert pq.read_metadata(out).num_rows == found["rows"] == pq.read_metadata(pairs).num_rows
    out.unlink()
    return {
        "pairs": found["rows"],
        "megabytes": round(pairs.stat().st_size / 1e6, 1),
        "pairs_per_second": round(found["rows"] / found["seconds"]["scoring"], 1),
        "seconds": {name: round(seconds, 2) for name, seconds in found["seconds"].items()},
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mib": round(peak_kib / 1024),
        "load_of_the_machine_before": round(load, 1),
    }


def measure_all(work: Path, sizes: Sequence[int], engine: str) -> dict[str, Any]:
    """Score files with texts of all sizes, and one of the middle size with ids alone; gives the engine too."""
    data, exported = make(work)
    engine = load_scorer(exported, engine=engine).engine_name  # once, so that all are scored by the same
    pairs, found = work / "pairs.parquet", []
    for count in sizes:
        write_pairs(data, count, pairs, texts=True)
        found.append(measure(exported, pairs, engine))
        print(json.dumps(found[-1]), flush=True)
    write_pairs(data, sizes[len(sizes) // 2], pairs, texts=False)
    looked_up = measure(exported, pairs, engine, data)
    print(json.dumps(looked_up), flush=True)
    pairs.unlink()
    return {"engine": engine, "sizes": found, "looked_up": looked_up, "largest_beside_the_others": compare(found)}


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
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="pairs of the files, the fewest first")
    parser.add_argument("--engine", default=MEASURE, help="as for `zhichun score`")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "scaling.json")
    given = parser.parse_args()
    if len(given.sizes) < 2:
        parser.error("--sizes must be two or more, to be compared")
    result = {
        "what": "scoring more and more pairs of a sample shop",
        "command": command_as_given("scaling.py"),
        **circumstances("zhichun", "onnxruntime", "openvino", "numpy", "pyarrow"),
        "shop": SHOP,
        "settings": SETTINGS,
        "goals": GOALS,
        **measure_all(given.work, given.sizes, given.engine),
    }
    write_json(given.out, result)


if __name__ == "__main__":
    main()
