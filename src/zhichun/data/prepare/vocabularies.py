"""The vocabularies of a dataset folder: its brands, its colors and its trigrams.

They are counted in the folder's own tables, whose texts are clean as :class:`zhichun.text.features.Featurizer` cleans
them, as in the model's look-up. Synthetic products are not counted.
Files are read in batches: 1.8 million products fit in bounded memory.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from zhichun.core import schema
from zhichun.core.arrays import Int32, Int64
from zhichun.data.dataset import Progress, of_catalogue
from zhichun.text.trigrams import POINTS, Keys, TrigramVocabulary, strip_keys, trigram_windows, western, western_windows
from zhichun.text.vocabulary import Vocabulary

FOLDER: Final = "vocabulary"
# Few enough that what is made of their texts stays in the processor's caches.
BATCH_ROWS: Final = 512
# A brand or color gets a vector when it is seen at least this often, as in the paper.
MIN_COUNT: Final = 2
# Windows that are counted in one pass: 16 MB.
AT_ONCE: Final = 1 << 21
# Counts of passes that are gathered before they are added up: 64 MB.
PENDING: Final = 1 << 22


def write_vocabularies(folder: Path, min_count_trigram: int, progress: Progress) -> dict[str, int]:
    """Write ``brands.parquet``, ``colors.parquet`` and ``trigrams.parquet``, and count the entries of each.

    Trigrams are counted over all fields of the catalogue and over the distinct queries of the training split. Queries
    of other splits are not looked at.
    """
    examples = pq.read_table(folder / schema.EXAMPLES_FILE, columns=[schema.QUERY, schema.SPLIT])
    in_training = pc.equal(examples.column(schema.SPLIT), schema.TRAIN)
    # Distinct ones: a query that was judged against more products does not count for more.
    queries = pc.unique(examples.column(schema.QUERY).filter(in_training)).to_pylist()
    trigrams = TrigramCounter()
    trigrams.update(queries)
    values: dict[str, list[pa.Array]] = {schema.BRAND: [], schema.COLOR: []}
    with pq.ParquetFile(folder / schema.PRODUCTS_FILE) as file:
        done, total = 0, file.metadata.num_rows
        for batch in file.iter_batches(BATCH_ROWS, columns=[*schema.TEXT_COLUMNS, schema.ORIGIN]):
            products = of_catalogue(batch)
            for name in schema.TEXT_COLUMNS:
                trigrams.update(products.column(name).to_pylist())
            for name, chunks in values.items():
                chunks.append(products.column(name))
            done += batch.num_rows
            progress("vocabularies", done, total)
    brands, colors = (Vocabulary.build(pa.chunked_array(chunks, pa.string()), MIN_COUNT) for chunks in values.values())
    vocabularies: dict[str, Vocabulary | TrigramVocabulary] = {
        "brands": brands,
        "colors": colors,
        "trigrams": TrigramVocabulary.build(*trigrams.counts(), min_count_trigram, queries),
    }
    for name, vocabulary in vocabularies.items():
        vocabulary.save(folder / FOLDER / f"{name}.parquet")
    return {name: len(vocabulary) - 1 for name, vocabulary in vocabularies.items()}


class TrigramCounter:
    """Counts the trigrams of a corpus of any size, given in batches.

    Memory grows with the number of distinct trigrams, not with the text; order and size of batches do not matter.
    """

    def __init__(self) -> None:
        self._windows: list[Keys] = []
        self._parts = [pa.table({"values": pa.array([], pa.uint64()), "counts": pa.array([], pa.int64())})]
        # Of texts in Western letters, most of the world's: few enough for a table that has a cell for each trigram.
        self._western: list[Int32] = []
        self._cells = np.zeros(len(western()[1]) ** 3, np.int64)

    def update(self, texts: Sequence[str | None]) -> None:
        """Count the trigrams of a batch of texts."""
        in_western, others = [], []
        for text in filter(None, texts):
            try:
                in_western.append(text.encode() if text.isascii() else text.encode("cp1252"))
            except UnicodeEncodeError:
                others.append(text)
        self._western.append(western_windows(in_western))
        self._windows.append(trigram_windows(others))
        if sum(map(len, self._western)) > AT_ONCE:
            self._count_western()
        if sum(map(len, self._windows)) > AT_ONCE:
            self._count()

    def counts(self) -> tuple[Keys, Int64]:
        """Return the distinct trigrams so far in ascending order, and how often each was seen."""
        self._count()
        self._count_western()
        seen = np.flatnonzero(self._cells)
        first, second, third = western()[1][np.stack(np.unravel_index(seen, (len(western()[1]),) * 3))]
        of_cells = (first * POINTS + second) * POINTS + third
        self._parts.append(pa.table({"values": of_cells, "counts": self._cells[seen]}))
        self._cells[:] = 0
        windows = _added_up(self._parts)
        keys = strip_keys(windows["values"].to_numpy().copy())
        counted = _added_up([pa.table({"values": keys, "counts": windows["counts"]})]).sort_by("values")
        return counted["values"].to_numpy(), counted["counts"].to_numpy()

    def _count_western(self) -> None:
        self._cells += np.bincount(np.concatenate([*self._western, np.zeros(0, np.int32)]), minlength=len(self._cells))
        self._western.clear()

    def _count(self) -> None:
        counted = pa.chunked_array(self._windows, pa.uint64()).value_counts()
        self._windows.clear()
        self._parts.append(pa.Table.from_struct_array(counted))
        # Seldom enough that each key is moved a logarithmic number of times.
        if sum(map(len, self._parts[1:])) > max(PENDING, len(self._parts[0])):
            self._parts = [_added_up(self._parts)]


def _added_up(parts: Sequence[pa.Table]) -> pa.Table:
    counted = pa.concat_tables(parts).group_by("values").aggregate([("counts", "sum")])
    return counted.rename_columns({"counts_sum": "counts"})
