"""Figures of a prepared catalogue's texts: empty fields, lengths by locale, frequent values, and an even sample.

The catalogue is read once. Lengths are counted, not kept, so memory grows with the longest text and not with the number
of texts. Synthetic products are left out. Legend: ``S`` products of the sample.
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
from zhichun.text.document import COLUMN_OF
from zhichun.text.words import word_counts

Counts = npt.NDArray[np.int64]

# A histogram shows all but the longest hundredth, in so many bars at most.
SHOWN_SHARE: Final = 0.99
MOST_BARS: Final = 40


class LengthCounts:
    """Counts lengths by locale."""

    def __init__(self) -> None:
        self._counts: dict[str, Counts] = {}

    def add(self, locale: str, lengths: npt.NDArray[np.integer]) -> None:
        """Count the lengths of some texts of a locale."""
        if not len(lengths):
            return
        fresh = np.bincount(lengths).astype(np.int64)
        known = self._counts.get(locale, fresh[:0])
        longer, shorter = (fresh, known) if len(fresh) >= len(known) else (known, fresh)
        total = longer.copy()
        total[: len(shorter)] += shorter
        self._counts[locale] = total

    def add_rows(self, locales: npt.NDArray[Any], lengths: npt.NDArray[np.integer]) -> None:
        """Count the lengths of texts, whose locale is given for each."""
        for locale in np.unique(locales):
            self.add(str(locale), lengths[locales == locale])

    def describe(self) -> dict[str, Any]:
        """Return the figures of each locale; JSON."""
        ends = [_reached_by(counts, SHOWN_SHARE) for counts in self._counts.values()]
        bar = _bar_width(max(ends, default=0) + 1)
        return {
            "bar": bar,
            "by_locale": {locale: _figures(self._counts[locale], bar) for locale in sorted(self._counts)},
        }


def _figures(counts: Counts, bar: int) -> dict[str, Any]:
    texts = int(counts.sum())
    bars = _reached_by(counts, SHOWN_SHARE) // bar + 1
    shown = np.zeros(bars * bar, np.int64)
    kept = min(len(shown), len(counts))
    shown[:kept] = counts[:kept]
    return {
        "texts": texts,
        "mean": round(float(counts @ np.arange(len(counts))) / texts, 2),
        "median": _reached_by(counts, 0.5),
        "p95": _reached_by(counts, 0.95),
        "longest": len(counts) - 1,
        "bars": shown.reshape(bars, bar).sum(axis=1).tolist(),
        "beyond": texts - int(shown.sum()),
    }


def _reached_by(counts: Counts, share: float) -> int:
    """Return a quantile of the lengths."""
    total = np.cumsum(counts)
    return int(np.searchsorted(total, share * total[-1] - 1e-9))


def _bar_width(lengths: int) -> int:
    """Return the smallest of 1, 2, 5, 10, 20, … with which the lengths fit into `MOST_BARS` bars."""
    unit = 1
    while True:
        for factor in (1, 2, 5):
            if factor * unit * MOST_BARS >= lengths:
                return factor * unit
        unit *= 10


def top_values(values: pa.ChunkedArray, locales: pa.ChunkedArray, most: int = 10) -> dict[str, Any]:
    """Count values by locale, upper and lower case alike."""
    there = values.is_valid()
    encoded = pc.utf8_lower(values.filter(there)).combine_chunks().dictionary_encode()
    of_value = locales.filter(there).combine_chunks().dictionary_encode()
    shape = len(of_value.dictionary), len(encoded.dictionary)
    cells = of_value.indices.to_numpy().astype(np.int64) * shape[1] + encoded.indices.to_numpy()
    counts = np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape)
    found = {}
    for locale, of_locale in sorted(zip(of_value.dictionary.to_pylist(), counts, strict=True)):
        # All that are as frequent as the last one shown, so that ties are broken by text and not by place.
        least = max(1, int(np.sort(of_locale)[-most:][0]))
        places = np.flatnonzero(of_locale >= least)
        names = encoded.dictionary.take(pa.array(places)).to_pylist()
        top = sorted(zip((-of_locale[places]).tolist(), names, strict=True))[:most]
        found[locale] = {
            "values": int(np.count_nonzero(of_locale)),
            "products": int(of_locale.sum()),
            "top": [[name, -count] for count, name in top],
        }
    return found


# What all fields together are called.
PRODUCT: Final = "product"


class CatalogueSurvey:
    """Figures of a catalogue's texts.

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
    """Return the locale of each row as numpy."""
    return np.asarray(table.column(LOCALE).to_pylist(), dtype=str)
