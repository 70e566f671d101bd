"""The vocabularies of a dataset folder: its brands, its colors and its trigrams.

They are counted in the folder's own tables, whose texts are clean as :class:`zhichun.text.features.Featurizer` cleans
them, so that what is counted here is what the model will look up. Products that a step made of others are not counted.
Files are read in batches: 1.8 million products fit in bounded memory.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from zhichun.core import schema
from zhichun.data.prepare.trigram_counts import CatalogueTrigrams
from zhichun.text.trigrams.bags import TrigramVocabulary, trigram_keys
from zhichun.text.vocabulary import Vocabulary

FOLDER: Final = "vocabulary"
# Two thousand products are 2 to 5 million characters, and counting the rare letters needs 60 bytes for each.
BATCH_ROWS: Final = 2048
# A brand or color gets a vector when it is seen so often, as in the paper.
MIN_COUNT: Final = 2

Progress = Callable[[str, int, int], None]


def write_vocabularies(folder: Path, min_count_trigram: int, progress: Progress) -> dict[str, int]:
    """Write ``brands.parquet``, ``colors.parquet`` and ``trigrams.parquet``, and count the entries of each.

    Trigrams are counted over all fields of the catalogue and over the distinct queries of the training split. Queries
    of other splits are not looked at.

    Parameters
    ----------
    folder
        A dataset folder with both tables.
    min_count_trigram
        A trigram gets a vector when it is seen so often (15 as in the paper's Word2vec) or is in a training query.
    progress
        Called with (what, products done, products in all).
    """
    vocabularies: dict[str, Vocabulary | TrigramVocabulary] = {
        "brands": Vocabulary.build(_values(folder, schema.BRAND, "brands", progress), MIN_COUNT),
        "colors": Vocabulary.build(_values(folder, schema.COLOR, "colors", progress), MIN_COUNT),
        "trigrams": _choose_trigrams(folder, min_count_trigram, progress),
    }
    for name, vocabulary in vocabularies.items():
        vocabulary.save(folder / FOLDER / f"{name}.parquet")
    return {name: len(vocabulary) - 1 for name, vocabulary in vocabularies.items()}


def _choose_trigrams(folder: Path, min_count: int, progress: Progress) -> TrigramVocabulary:
    counter = CatalogueTrigrams()
    examples = pq.read_table(folder / schema.EXAMPLES_FILE, columns=[schema.QUERY, schema.SPLIT])
    in_training = pc.equal(examples.column(schema.SPLIT), schema.TRAIN)
    # Distinct ones: a query that was judged against more products does not count for more.
    queries = pc.unique(examples.column(schema.QUERY).filter(in_training)).cast(pa.large_string())
    counter.update(queries)
    for batch in _catalogue(folder, schema.TEXT_COLUMNS, "trigrams", progress):
        for name in schema.TEXT_COLUMNS:
            counter.update(batch.column(name))
    keys_V, counts_V = counter.counts()
    known = (counts_V >= min_count) | np.isin(keys_V, trigram_keys(queries.to_pylist())[0])
    return TrigramVocabulary.build(keys_V[known], counts_V[known])


def _values(folder: Path, name: str, what: str, progress: Progress) -> Iterator[str | None]:
    """Give the values of a column, one for every product."""
    batches = [batch.column(name) for batch in _catalogue(folder, (name,), what, progress)]
    if batches:
        values: Any = pa.chunked_array(batches).dictionary_encode().combine_chunks()
        texts = values.dictionary.to_pylist()
        yield from (None if code is None else texts[code] for code in values.indices.to_pylist())


def _catalogue(folder: Path, columns: Sequence[str], what: str, progress: Progress) -> Iterator[pa.RecordBatch]:
    """Read products, without those that a step made."""
    done = 0
    with pq.ParquetFile(folder / schema.PRODUCTS_FILE) as file:
        for batch in file.iter_batches(BATCH_ROWS, columns=[*columns, schema.ORIGIN]):
            yield batch.filter(pc.equal(batch.column(schema.ORIGIN), schema.CATALOGUE))
            done += batch.num_rows
            progress(what, done, file.metadata.num_rows)
