"""The vocabularies of a dataset folder: its brands, its colors and its trigrams.

Texts are cleaned as :class:`zhichun.text.features.Featurizer` cleans them, so that what is counted here is what the
model will look up. Products that a step made of others are not counted. Files are read in batches: 1.8 million products
fit in bounded memory.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.data.prepare.clean_column import clean_column
from zhichun.data.prepare.trigram_counts import CatalogueTrigrams
from zhichun.text.trigrams.bags import TrigramVocabulary, trigram_keys
from zhichun.text.vocabulary import Vocabulary

REMEDY: Final = "It may be cut off; make the dataset folder again with: zhichun prepare"
# Two thousand products are 2 to 5 million characters, and counting the rare letters needs 60 bytes for each.
BATCH_ROWS: Final = 2048

Progress = Callable[[str, int, int], None]
Clean = Callable[[Any], Any]


def write_vocabularies(
    folder: Path,
    products: Path,
    examples: Path,
    *,
    min_count_trigram: int = 15,
    min_count: int = 2,
    cleaned: bool = False,
    progress: Progress | None = None,
) -> dict[str, int]:
    """Write ``brands.parquet``, ``colors.parquet`` and ``trigrams.parquet``; the same input gives the same bytes.

    Trigrams are counted over all fields of the catalogue and over the distinct queries of the training split. Queries
    of other splits are not looked at, and products are those of the catalogue alone where a column says their origin.

    Parameters
    ----------
    folder
        Where to write; made if it is not there.
    products, examples
        Parquet files with the columns of ``zhichun.core.schema``.
    min_count_trigram
        A trigram gets a vector when it is seen so often (15 as in the paper's Word2vec) or is in a training query.
    min_count
        A brand or color gets one when it is seen so often; 2 as in the paper.
    cleaned
        Whether the texts are clean already, as those of a dataset folder are; cleaning again changes nothing but time.
    progress
        Called with (what, rows done, rows in all) while a file is read.

    Returns
    -------
    dict[str, int]
        Entries of each vocabulary: ``brands``, ``colors``, ``trigrams``.

    Raises
    ------
    UserError
        When a file is missing, damaged or without a column that is needed, or the folder cannot be written.
    """
    clean: Clean = _as_they_are if cleaned else clean_column
    vocabularies: dict[str, Vocabulary | TrigramVocabulary] = {
        "brands": Vocabulary.build(_values(products, schema.BRAND, "brands", clean, progress), min_count),
        "colors": Vocabulary.build(_values(products, schema.COLOR, "colors", clean, progress), min_count),
        "trigrams": _choose_trigrams(products, examples, min_count_trigram, clean, progress),
    }
    for name, vocabulary in vocabularies.items():
        vocabulary.save(folder / f"{name}.parquet")
    return {name: len(vocabulary) - 1 for name, vocabulary in vocabularies.items()}


def _choose_trigrams(
    products: Path, examples: Path, min_count: int, clean: Clean, progress: Progress | None
) -> TrigramVocabulary:
    counter = CatalogueTrigrams()
    queries = _training_queries(examples, clean)
    counter.update(queries)
    for batch in _catalogue(products, schema.TEXT_COLUMNS, "trigrams", progress):
        for name in schema.TEXT_COLUMNS:
            counter.update(clean(batch.column(name)))
    keys_V, counts_V = counter.counts()
    known = (counts_V >= min_count) | np.isin(keys_V, trigram_keys(queries.to_pylist())[0])
    return TrigramVocabulary.build(keys_V[known], counts_V[known])


def _training_queries(examples: Path, clean: Clean) -> Any:
    """Distinct queries: one that was judged against more products does not count for more."""
    parts = [pa.array([], pa.large_string())]
    for batch in _batches(examples, (schema.QUERY, schema.SPLIT), "queries", None):
        in_training = pc.equal(batch.column(schema.SPLIT), schema.TRAIN)
        parts.append(pc.unique(batch.column(schema.QUERY).filter(in_training)).cast(pa.large_string()))
    return pc.unique(clean(pc.unique(pa.concat_arrays(parts))))


def _values(path: Path, name: str, what: str, clean: Clean, progress: Progress | None) -> Iterator[str | None]:
    """Give the cleaned values of a column, one for every product."""
    batches = list(_catalogue(path, (name,), what, progress))
    if batches:
        values = pa.chunked_array([batch.column(name) for batch in batches]).dictionary_encode().combine_chunks()
        cleaned = clean(values.dictionary).to_pylist()
        yield from (None if code is None else cleaned[code] for code in values.indices.to_pylist())


def _as_they_are(texts: Any) -> Any:
    return texts


def _catalogue(path: Path, columns: Sequence[str], what: str, progress: Progress | None) -> Iterator[pa.RecordBatch]:
    """Read products, without those that a step made."""
    for batch in _batches(path, columns, what, progress, optional=(schema.ORIGIN,)):
        known = schema.ORIGIN in batch.schema.names
        yield batch.filter(pc.equal(batch.column(schema.ORIGIN), schema.CATALOGUE)) if known else batch


def _batches(
    path: Path, columns: Sequence[str], what: str, progress: Progress | None, optional: Sequence[str] = ()
) -> Iterator[pa.RecordBatch]:
    if not path.is_file():
        raise UserError("there is no such file.", file=path, remedy=REMEDY)
    done = 0
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            missing = [name for name in columns if name not in names]
            if missing:
                raise UserError(f"lacks the columns {missing}.", file=path, remedy=REMEDY)
            there = [*columns, *(name for name in optional if name in names)]
            for batch in file.iter_batches(BATCH_ROWS, columns=there):
                yield batch
                done += batch.num_rows
                if progress:
                    progress(what, done, file.metadata.num_rows)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"cannot be read as Parquet ({error}).", file=path, remedy=REMEDY) from error
