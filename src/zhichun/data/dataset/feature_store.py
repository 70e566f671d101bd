"""Features of a dataset's queries and products, computed once and stored as memory-mapped Arrow.

They are in ``features/<fingerprint>/`` of the dataset folder; the fingerprint is a hash of tokenizer, template,
vocabularies and of the dataset itself, so that runs with equal ones share the features.
"""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from zhichun.core import schema
from zhichun.core.arrays import Int32, Ragged, map_batches, write_batches
from zhichun.core.files import new_folder
from zhichun.data.dataset.dataset import BATCH_ROWS, Dataset
from zhichun.text.features import Featurizer, ProductFeatures, QueryFeatures
from zhichun.text.pairs import Pairs

Progress = Callable[[str, int, int], None]


def open_pairs(dataset: Dataset, featurizer: Featurizer, max_length: int, progress: Progress | None = None) -> Pairs:
    """Open the features of all pairs of a dataset; computes them the first time.

    Parameters
    ----------
    dataset, featurizer
        The dataset and its featurizer.
    max_length
        Maximum number of tokens of a pair in a batch; stored features are not truncated.
    progress
        Called with (what, done, total) while features are computed.
    """
    folder = dataset.folder / "features" / _key(dataset, featurizer)
    if not folder.is_dir():
        _build(folder, dataset, featurizer, progress)
    query_columns = _open(folder / "queries.arrow")
    product_columns = _open(folder / "products.arrow")
    return Pairs(
        queries=QueryFeatures(_ragged(query_columns, "tokens"), _optional_ragged(query_columns, "trigrams")),
        products=ProductFeatures(
            tokens=_ragged(product_columns, "tokens"),
            trigrams=_optional_ragged(product_columns, "trigrams"),
            description_trigrams=_optional_ragged(product_columns, "description_trigrams"),
            brand=_ids(product_columns, "brand"),
            color=_ids(product_columns, "color"),
        ),
        query_row_P=dataset.query_row,
        product_row_P=dataset.product_row,
        country_P=dataset.country,
        layout=featurizer.tokenizer.layout,
        pad_id=featurizer.tokenizer.pad_id,
        max_length=max_length,
    )


def _key(dataset: Dataset, featurizer: Featurizer) -> str:
    """Fingerprint of featurizer and dataset; the manifest holds the hashes of the sources and all options."""
    manifest = (dataset.folder / "manifest.json").read_bytes()
    return hashlib.sha256(featurizer.fingerprint.encode() + manifest).hexdigest()[:16]


def _build(folder: Path, dataset: Dataset, featurizer: Featurizer, progress: Progress | None) -> None:
    with new_folder(folder, first_wins=True) as partial:
        write_batches(partial / "queries.arrow", _query_batches(dataset, featurizer, progress))
        write_batches(partial / "products.arrow", _product_batches(dataset, featurizer, progress))


def _query_batches(
    dataset: Dataset, featurizer: Featurizer, progress: Progress | None
) -> Iterator[dict[str, pa.Array]]:
    for start in range(0, len(dataset.queries), BATCH_ROWS):
        made = featurizer.queries(dataset.queries.slice(start, BATCH_ROWS).to_pylist())
        yield _arrow({"tokens": made.tokens, "trigrams": made.trigrams})
        if progress:
            progress("queries", min(start + BATCH_ROWS, len(dataset.queries)), len(dataset.queries))


def _product_batches(
    dataset: Dataset, featurizer: Featurizer, progress: Progress | None
) -> Iterator[dict[str, pa.Array]]:
    total, done = dataset.product_count, 0
    for batch in dataset.product_batches():
        made = featurizer.products({name: batch.column(name).to_pylist() for name in schema.TEXT_COLUMNS})
        yield _arrow(vars(made))
        done += batch.num_rows
        if progress:
            progress("products", done, total)


def _arrow(columns: dict[str, Any]) -> dict[str, pa.Array]:
    present = {name: column for name, column in columns.items() if column is not None}
    return {name: c.to_arrow() if isinstance(c, Ragged) else pa.array(c, pa.int32()) for name, c in present.items()}


def _open(path: Path) -> dict[str, list[pa.Array]]:
    batches = map_batches(path)
    return {name: [batch.column(name) for batch in batches] for name in batches[0].schema.names}


def _ragged(columns: dict[str, list[pa.Array]], name: str) -> Ragged:
    return Ragged.from_arrow(columns[name])


def _optional_ragged(columns: dict[str, list[pa.Array]], name: str) -> Ragged | None:
    return _ragged(columns, name) if name in columns else None


def _ids(columns: dict[str, list[pa.Array]], name: str) -> Int32 | None:
    return np.concatenate([column.to_numpy() for column in columns[name]]) if name in columns else None
