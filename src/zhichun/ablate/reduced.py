"""A dataset without the judgements that an audit doubts most: what Table 6 trains on.

Products, vocabularies and tokenizers are those of the dataset that it comes from, and so are test and validation pairs:
two rows differ in the training pairs alone. Pairs that a step of `zhichun prepare` made of a dropped one stay.
"""

import os
import shutil
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from zhichun.ablate.identity import manifest_hash
from zhichun.core import schema
from zhichun.core.files import write_json
from zhichun.data.dataset.dataset import Dataset
from zhichun.data.dataset.query_folds import BUCKETS, VALIDATION_BUCKET

COUNTED: Final = {"locale": schema.LOCALE, "label": schema.LABEL, "split": schema.SPLIT, "fold": schema.FOLD}


def without(source: Path, listed: Path, out: Path) -> None:
    """Write a dataset folder without the listed training pairs.

    Parameters
    ----------
    source
        The dataset folder.
    listed
        CSV with the column ``example_id``. Pairs of validation queries and test pairs stay.
    out
        The folder to make.
    """
    dataset = Dataset.open(source)
    ids = pacsv.read_csv(listed).column(schema.EXAMPLE_ID)
    can_go = (dataset.column(schema.SPLIT) == schema.TRAIN) & (dataset.column(schema.ORIGIN) == schema.JUDGED)
    can_go &= dataset.buckets(BUCKETS) != VALIDATION_BUCKET
    goes = can_go & pc.is_in(dataset.examples.column(schema.EXAMPLE_ID), ids).to_numpy(zero_copy_only=False)
    kept = dataset.examples.filter(pa.array(~goes))
    partial = out.with_name(f"partial-{out.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name in (schema.PRODUCTS_FILE, "vocabulary", "tokenizers"):
        if (source / name).is_dir():
            shutil.copytree(source / name, partial / name, copy_function=_link)
        elif (source / name).is_file():
            _link(source / name, partial / name)
    pq.write_table(kept, partial / schema.EXAMPLES_FILE)
    write_json(partial / "manifest.json", _manifest(dataset, kept, int(np.sum(goes)), manifest_hash(source)))
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)


def _manifest(dataset: Dataset, kept: pa.Table, dropped: int, source: str) -> dict[str, Any]:
    """Write the source's manifest anew with the counts of what is kept."""
    manifest = dict(dataset.manifest)
    examples = dict(manifest.get("examples", {}))
    for name, column in COUNTED.items():
        counted = pc.value_counts(kept.column(column)).to_pylist()
        examples[f"by_{name}"] = {str(item["values"]): item["counts"] for item in counted}
    judged = pc.equal(kept.column(schema.ORIGIN), schema.JUDGED)
    examples["kept"] = pc.sum(judged).as_py()
    examples["queries"] = pc.count_distinct(kept.column(schema.QUERY_ID)).as_py()
    return {**manifest, "examples": examples, "without": {"listed": dropped, "source_manifest": source}}


def _link(source: str | Path, target: str | Path) -> None:
    """Give a file a second name; where that cannot be, copy it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
