"""Queries with judgements: examples to try, and what people said of their products."""

from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from zhichun.core import schema
from zhichun.data.dataset.dataset import read_parquet
from zhichun.data.dataset.dataset_folder import MANIFEST_FILE
from zhichun.data.prepare.clean_column import clean_column
from zhichun.text.fold import fold_column, fold_query

_COLUMNS: Final = [schema.QUERY, schema.PRODUCT_ID, schema.LOCALE, schema.LABEL, schema.SPLIT]


class JudgedQueries:
    """The judged pairs that a model is tested on.

    Parameters
    ----------
    pairs
        With query, product id, locale, label and split. Training pairs are left out where there are others: a model
        that repeats what it was taught shows nothing.
    """

    def __init__(self, pairs: pa.Table) -> None:
        if schema.ORIGIN in pairs.column_names:
            pairs = pairs.filter(pc.equal(pairs.column(schema.ORIGIN), schema.JUDGED))
        pairs = pairs.filter(pc.is_in(pairs.column(schema.LABEL), value_set=pa.array(schema.LABELS)))
        tested = pairs.filter(pc.equal(pairs.column(schema.SPLIT), schema.TEST))
        self._pairs = (tested if tested.num_rows else pairs).select(_COLUMNS)
        self._keys = fold_column(self._pairs.column(schema.QUERY).combine_chunks(), fold_query)

    @classmethod
    def find(cls, folder: Path) -> "JudgedQueries | None":
        """Open the judgements that lie beside a catalogue, in a dataset folder or one in the official layout."""
        if (folder / MANIFEST_FILE).is_file() and (folder / schema.EXAMPLES_FILE).is_file():
            return cls(read_parquet(folder / schema.EXAMPLES_FILE, columns=[*_COLUMNS, schema.ORIGIN]))
        if (folder / schema.OFFICIAL_EXAMPLES_FILE).is_file():
            pairs = read_parquet(folder / schema.OFFICIAL_EXAMPLES_FILE, columns=_COLUMNS)
            return cls(pairs.set_column(0, schema.QUERY, clean_column(pairs.column(schema.QUERY))))
        return None

    def examples(self, locale: str, count: int) -> list[str]:
        """Choose queries that show most: those with the most kinds of labels, and of these with the most products."""
        pairs = self._pairs.filter(pc.equal(self._pairs.column(schema.LOCALE), locale))
        counted = [(schema.LABEL, "count_distinct"), (schema.PRODUCT_ID, "count")]
        queries = pairs.group_by(schema.QUERY).aggregate(counted)
        keys: list[Any] = [(f"{name}_{kind}", "descending") for name, kind in counted]
        return list(queries.sort_by([*keys, (schema.QUERY, "ascending")]).column(schema.QUERY)[:count].to_pylist())

    def of(self, query: str, locale: str) -> dict[str, str]:
        """Give the labels of a query's products by their id."""
        column, key = self._pairs.column, fold_query(query)
        asked = pc.and_(pc.equal(self._keys, key), pc.equal(column(schema.LOCALE), locale))
        found = self._pairs.filter(asked)
        ids, labels = (found.column(name).to_pylist() for name in (schema.PRODUCT_ID, schema.LABEL))
        return dict(zip(ids, labels, strict=True))
