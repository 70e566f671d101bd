"""The catalogue as sentences of trigrams: what Word2vec reads.

A field of a product is a sentence, its known trigrams are the words. Both come from the functions that the model reads
texts with, and the catalogue is streamed: memory does not grow with it. Products that a step of `prepare` made of
others are left out.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from zhichun.core.schema import CATALOGUE, ORIGIN, PRODUCTS_FILE, TEXT_COLUMNS
from zhichun.data.dataset.dataset import REMEDY, Dataset, read_parquet
from zhichun.text.clean import clean_text
from zhichun.text.trigrams.bags import TrigramVocabulary

# A thousand products are 2 to 3 million characters, and cutting them needs 60 bytes for each.
BATCH_ROWS: Final = 1024
# What gensim reads of a sentence; it would leave out the rest by itself, and count it all the same.
LONGEST: Final = 10_000


class TrigramSentences:
    """Lists of trigram ids, one for each field of each product, an empty one included.

    gensim reads them in a thread of its own and would wait for ever if that thread failed; so a failure ends the
    sentences early, and `raise_failure` raises it.

    Parameters
    ----------
    dataset
        Whose catalogue is read.
    vocabulary
        The known trigrams; all others are left out.
    most
        Products to read at most, drawn evenly; None is all.
    progress
        Called with the products that one more pass has read so far.

    Attributes
    ----------
    products : int
        Products of a pass.

    Raises
    ------
    UserError
        When ``products.parquet`` is missing, damaged or without ``origin``.
    """

    def __init__(
        self,
        dataset: Dataset,
        vocabulary: TrigramVocabulary,
        most: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self._path = dataset.folder / PRODUCTS_FILE
        self._vocabulary, self._progress = vocabulary, progress
        origins = read_parquet(self._path, REMEDY, columns=[ORIGIN])
        self._catalogue: int = pc.sum(pc.equal(origins[ORIGIN], CATALOGUE)).as_py() or 0
        self.products = self._catalogue if most is None else min(most, self._catalogue)
        self._failure: Exception | None = None

    def __len__(self) -> int:
        return self.products * len(TEXT_COLUMNS)

    def __iter__(self) -> Iterator[list[int]]:
        try:
            done = 0
            for products in self._drawn():
                yield from self._sentences(products)
                done += products.num_rows
                if self._progress:
                    self._progress(done)
        except Exception as error:
            self._failure = error

    def raise_failure(self) -> None:
        """Raise what ended the sentences early, if anything did."""
        if self._failure is not None:
            raise self._failure

    def _drawn(self) -> Iterator[Any]:
        """Read the products in small parts: of ``n`` rows, the ``k`` where ``row * k / n`` reaches the next integer."""
        first = 0
        with pq.ParquetFile(self._path) as file:
            for batch in file.iter_batches(BATCH_ROWS, columns=[*TEXT_COLUMNS, ORIGIN]):
                part = batch.filter(pc.equal(batch.column(ORIGIN), CATALOGUE))
                rows = np.arange(first, first + part.num_rows + 1)
                yield part.take(np.flatnonzero(np.diff(rows * self.products // max(1, self._catalogue))))
                first += part.num_rows

    def _sentences(self, products: Any) -> Iterator[list[int]]:
        fields = [products.column(name).to_pylist() for name in TEXT_COLUMNS]
        texts = [clean_text(text) if text else "" for row in zip(*fields, strict=True) for text in row]
        ids_N, offsets = self._vocabulary.ids(texts)
        for begin, end in itertools.pairwise(offsets):
            yield ids_N[begin : min(end, begin + LONGEST)].tolist()
