"""The vocabularies of a dataset folder: its brands, its colors and its trigrams.

Texts are cleaned as :class:`zhichun.text.features.Featurizer` cleans them, so that what is counted here is what the
model will look up. Files are read in batches: 1.8 million products fit in bounded memory.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from zhichun import schema
from zhichun.errors import UserError
from zhichun.text.clean import clean_text
from zhichun.text.ngrams import TrigramVocabulary
from zhichun.text.trigram_counter import TrigramCounter
from zhichun.text.vocabulary import Vocabulary

TRAIN: Final = "train"
REMEDY: Final = "It may be cut off; make the dataset folder again with: zhichun prepare"
# A thousand products are 2 to 3 million characters, and counting needs 60 bytes for each.
BATCH_ROWS: Final = 1024

Progress = Callable[[str, int, int], None]


def write_vocabularies(
    folder: Path,
    products: Path,
    examples: Path,
    *,
    min_count_trigram: int = 15,
    min_count: int = 2,
    progress: Progress | None = None,
) -> dict[str, int]:
    """Write ``brands.parquet``, ``colors.parquet`` and ``trigrams.parquet``; the same input gives the same bytes.

    Trigrams are counted over all fields of the catalogue and over the distinct queries of the training split. Queries
    of other splits are not looked at.

    Parameters
    ----------
    folder
        Where to write; made if it is not there.
    products, examples
        Parquet files with the columns of ``zhichun.schema``.
    min_count_trigram
        A trigram gets a vector when it is seen so often (15 as in the paper's Word2vec) or is in a training query.
    min_count
        A brand or color gets one when it is seen so often; 2 as in the paper.
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
    vocabularies: dict[str, Vocabulary | TrigramVocabulary] = {
        "brands": Vocabulary.build(_column(products, schema.BRAND, "brands", progress), min_count),
        "colors": Vocabulary.build(_column(products, schema.COLOR, "colors", progress), min_count),
        "trigrams": _choose_trigrams(products, examples, min_count_trigram, progress),
    }
    _make(folder)
    for name, vocabulary in vocabularies.items():
        vocabulary.save(folder / f"{name}.parquet")
    return {name: len(vocabulary) - 1 for name, vocabulary in vocabularies.items()}


def _choose_trigrams(products: Path, examples: Path, min_count: int, progress: Progress | None) -> TrigramVocabulary:
    counter = TrigramCounter()
    counter.update(_training_queries(examples))
    in_queries, _ = counter.counts()
    for batch in _batches(products, schema.TEXT_COLUMNS, "trigrams", progress):
        for name in schema.TEXT_COLUMNS:
            counter.update(_cleaned(batch, name))
    return counter.finish(min_count, keep=in_queries)


def _training_queries(examples: Path) -> list[str]:
    """Distinct queries: one that was judged against more products does not count for more."""
    queries: set[str] = set()
    for batch in _batches(examples, (schema.QUERY, schema.SPLIT), "queries", None):
        rows = zip(_cleaned(batch, schema.QUERY), batch.column(schema.SPLIT).to_pylist(), strict=True)
        queries.update(query for query, split in rows if split == TRAIN)
    return sorted(queries)


def _column(path: Path, name: str, what: str, progress: Progress | None) -> Iterator[str]:
    for batch in _batches(path, (name,), what, progress):
        yield from _cleaned(batch, name)


def _cleaned(batch: pa.RecordBatch, name: str) -> list[str]:
    return [clean_text(text) if text else "" for text in batch.column(name).to_pylist()]


def _batches(path: Path, columns: Sequence[str], what: str, progress: Progress | None) -> Iterator[pa.RecordBatch]:
    if not path.is_file():
        raise UserError("there is no such file.", file=path, remedy=REMEDY)
    done = 0
    try:
        with pq.ParquetFile(path) as file:
            missing = [name for name in columns if name not in file.schema_arrow.names]
            if missing:
                raise UserError(f"lacks the columns {missing}.", file=path, remedy=REMEDY)
            for batch in file.iter_batches(BATCH_ROWS, columns=list(columns)):
                yield batch
                done += batch.num_rows
                if progress:
                    progress(what, done, file.metadata.num_rows)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"cannot be read as Parquet ({error}).", file=path, remedy=REMEDY) from error


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the folder cannot be made ({error.strerror or error}).", file=folder) from error
