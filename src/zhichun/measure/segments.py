"""Parts of the judged pairs that a change may hurt while the whole gains: locale, length of the query, and more.

Legend: ``R`` rows of the dataset that are compared.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from zhichun.core import schema
from zhichun.core.arrays import Bools, Int64
from zhichun.core.errors import UserError
from zhichun.data.dataset import Dataset
from zhichun.data.readers.rejected import Say, silent
from zhichun.data.readers.sources import ALIASES, find_column, open_table
from zhichun.text.fold import fold_query
from zhichun.text.vocabulary import terms, word_counts

# Queries of a segment that is tested, at least; a bootstrap over fewer says little.
LEAST_QUERIES: Final = 20
# Of the user's own columns: the values of most rows. Prices and ids are no segments.
MOST_VALUES: Final = 20
LENGTHS: Final = {1: "1 word", 2: "2 words", 3: "3 to 4 words", 5: "5 words or more"}


def segments_of(dataset: Dataset, rows: Int64, table: Path | None = None, say: Say = silent) -> dict[str, Bools]:
    """Find the segments with enough queries.

    Parameters
    ----------
    dataset, rows
        What is compared.
    table
        The user's own: a column with the query, the product id, or both; each other column makes segments.
    say
        Takes a line on what of these is left out.

    Returns
    -------
    dict
        ``locale: es`` and the like, with which rows belong to it, ``[R]``. A segment of products holds a part of a
        query's list.
    """
    queries = np.array(dataset.queries.to_pylist(), object)
    length_Q = word_counts(queries.tolist())
    names_Q = np.array(
        [LENGTHS[max(least for least in LENGTHS if least <= max(1, words))] for words in length_Q], object
    )
    query_R, id_R = dataset.query_row[rows], dataset.column(schema.QUERY_ID)[rows]
    products, trained = dataset.product_row, dataset.column(schema.SPLIT) == schema.TRAIN
    seen_R = np.isin(products[rows], products[np.setdiff1d(np.flatnonzero(trained), rows)])
    kinds: dict[str, Sequence[Any] | NDArray[Any]] = {
        "locale": dataset.column(schema.LOCALE)[rows],
        "query": names_Q[query_R],
        "brand": np.where(_names_brand(dataset, rows, queries)[query_R], "named in the query", "not named"),
        "product": np.where(seen_R, "seen in training", "not seen"),
    }
    own: dict[str, Sequence[Any] | NDArray[Any]] = {}
    if table is not None:
        given = _own(table, queries[query_R].tolist(), dataset.column(schema.PRODUCT_ID)[rows].tolist())
        own = {f"own {name}" if name in kinds else name: values for name, values in given.items()}
    found = {}
    for kind, values in (kinds | own).items():
        counts = Counter(value for value in values if value)
        blank, tested = len(values) - counts.total(), 0
        is_parted = len(counts) + (blank > 0) > 1  # a value, and rows without one, are two parts
        for value in sorted(name for name, _ in counts.most_common(MOST_VALUES)) if is_parted else ():
            mask_R = np.array([each == value for each in values])
            if len(np.unique(id_R[mask_R])) >= LEAST_QUERIES:
                found[f"{kind}: {value}"] = mask_R
                tested += 1
        if kind in own and (blank or tested < len(counts)):
            few = f"the {MOST_VALUES} commonest with {LEAST_QUERIES} queries or more"
            say(f"segments of {kind}: {tested:,} of {len(counts):,} values ({few}); {blank:,} pairs have none")
    return found


def _names_brand(dataset: Dataset, rows: Int64, queries: NDArray[Any]) -> Bools:
    """Return which queries name the brand of a product in their list."""
    brands = pq.read_table(dataset.folder / schema.PRODUCTS_FILE, columns=[schema.BRAND]).column(0)
    of_rows = brands.take(pa.array(dataset.product_row[rows])).to_pylist()
    named_Q = np.zeros(len(queries), bool)
    words_of: dict[str, str] = {}
    for query, brand in set(zip(dataset.query_row[rows].tolist(), of_rows, strict=True)):
        for text in (queries[query], brand or ""):
            words_of.setdefault(text, f" {' '.join(terms(text))} ")
        named_Q[query] |= words_of[brand or ""].strip() != "" and words_of[brand] in words_of[queries[query]]
    return named_Q


def _own(path: Path, queries: list[str], products: list[str]) -> dict[str, list[str | None]]:
    """Read the user's own columns: the value of each row, by query, by product, or by both."""
    table = open_table(path)
    keys = {
        field: own
        for field in (schema.QUERY, schema.PRODUCT_ID)
        for own in [next(filter(None, (find_column(name, table.names) for name in (field, *ALIASES[field]))), None)]
        if own is not None
    }
    own = [name for name in table.names if name not in keys.values()]
    if not keys or not own:
        remedy = "It needs a column query or product_id, and one or more whose values are segments."
        raise UserError("holds no segments.", file=path, remedy=remedy)
    wanted = list(zip(map(fold_query, queries), products, strict=True))
    parts = [place for place, field in enumerate((schema.QUERY, schema.PRODUCT_ID)) if field in keys]
    value_of: dict[str, dict[tuple[str, ...], str | None]] = {name: {} for name in own}
    # Under names of their own: a column of the user's that is called as a locale is, is read as it stands.
    for _, texts in table.rows({**keys, **{f"own:{name}": name for name in own}}):
        key = tuple(fold_query(texts[field] or "") if field == schema.QUERY else texts[field] or "" for field in keys)
        for name in own:
            value_of[name][key] = texts[f"own:{name}"]
    return {
        name: [values.get(tuple(key[part] for part in parts)) for key in wanted] for name, values in value_of.items()
    }
