"""Reading a prepared catalogue once, for what its summary says: empty fields, lengths, and an even sample.

Products that a step made of others are left out. Legend: ``S`` products of the sample.
"""

from collections import Counter
from collections.abc import Callable
from functools import reduce
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from zhichun.core.schema import BRAND, CATALOGUE, COLOR, LOCALE, ORIGIN, PRODUCT_COLUMNS, PRODUCTS_FILE
from zhichun.data.dataset.dataset import REMEDY, Dataset, read_parquet
from zhichun.data.prepare.length_counts import LengthCounts
from zhichun.data.prepare.top_values import top_values
from zhichun.text.document import COLUMN_OF
from zhichun.text.words import word_counts

# What all fields together are called.
PRODUCT: Final = "product"


class CatalogueSurvey:
    """What a catalogue's texts are like.

    Parameters
    ----------
    dataset
        The dataset folder.
    sample
        How many products to keep at most.
    progress
        Called with how many products are read, and how many there are.

    Attributes
    ----------
    products : Counter[str]
        Products by locale.
    without : dict[str, Counter[str]]
        Products without a text, by field and locale.
    made : Counter[str]
        Products that steps made, by origin.
    characters : dict[str, LengthCounts]
        Lengths of the texts that are there, by field, and of `PRODUCT`.
    brands, colors : dict
        The most frequent ones, as `zhichun.data.prepare.top_values.top_values` gives them.
    sample : pyarrow.Table
        Products drawn evenly: every n-th, or all where there are no more, ``[S]``.
    """

    def __init__(self, dataset: Dataset, sample: int, progress: Callable[[int, int], None]) -> None:
        self.products: Counter[str] = Counter()
        self.without: dict[str, Counter[str]] = {field: Counter() for field in COLUMN_OF}
        self.characters = {field: LengthCounts() for field in (*COLUMN_OF, PRODUCT)}
        origins = read_parquet(dataset.folder / PRODUCTS_FILE, REMEDY, [ORIGIN]).column(ORIGIN)
        self.made = Counter({each["values"]: each["counts"] for each in pc.value_counts(origins).to_pylist()})
        total = self.made.pop(CATALOGUE, 0)
        drawn = min(sample, total)
        chosen_S = np.arange(drawn) * total // max(drawn, 1)
        parts, read = [pa.schema([(name, pa.string()) for name in PRODUCT_COLUMNS]).empty_table()], 0
        kept: dict[str, list[pa.Array]] = {BRAND: [], COLOR: [], LOCALE: []}
        for batch in dataset.product_batches(ORIGIN):
            of_catalogue = pc.equal(batch.column(ORIGIN), CATALOGUE)
            products = batch if of_catalogue.true_count == len(batch) else batch.filter(of_catalogue)
            first, last = np.searchsorted(chosen_S, (read, read + len(products)))
            here = products.select(list(PRODUCT_COLUMNS)).take(pa.array(chosen_S[first:last] - read))
            parts.append(pa.Table.from_batches([here]))
            for name, chunks in kept.items():
                chunks.append(products.column(name))
            self._count(products)
            read += len(products)
            progress(read, total)
        self.sample: pa.Table = pa.concat_tables(parts)
        brand, color, locales = (pa.chunked_array(chunks, pa.string()) for chunks in kept.values())
        self.brands, self.colors = top_values(brand, locales), top_values(color, locales)

    def words(self) -> dict[str, LengthCounts]:
        """Count the words of the sample's texts, by field, and of `PRODUCT`."""
        counts = {field: LengthCounts() for field in (*COLUMN_OF, PRODUCT)}
        locales_S = locales_of(self.sample)
        together_S = np.zeros(len(locales_S), np.int64)
        for field, column in COLUMN_OF.items():
            texts = self.sample.column(column)
            words_S, there_S = word_counts(texts.to_pylist()), texts.is_valid().to_numpy()
            counts[field].add_rows(locales_S[there_S], words_S[there_S])
            together_S += words_S
        counts[PRODUCT].add_rows(locales_S, together_S)
        return counts

    def _count(self, batch: pa.RecordBatch) -> None:
        lengths = {field: pc.utf8_length(batch.column(column)) for field, column in COLUMN_OF.items()}
        together = reduce(pc.add, (pc.fill_null(length, 0) for length in lengths.values()))
        for locale in pc.unique(batch.column(LOCALE)).to_pylist():
            here = pc.equal(batch.column(LOCALE), locale)
            self.characters[PRODUCT].add(locale, together.filter(here).to_numpy())
            self.products[locale] += int(pc.sum(here).as_py())
            for field, length in lengths.items():
                of_locale = length.filter(here)
                self.without[field][locale] += of_locale.null_count
                self.characters[field].add(locale, of_locale.drop_null().to_numpy())


def locales_of(table: pa.Table) -> npt.NDArray[Any]:
    """Give the locale of each row as numpy."""
    return np.asarray(table.column(LOCALE).to_pylist(), dtype=str)
