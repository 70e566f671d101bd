"""The catalogue behind a server: products by id, and a first stage that finds candidates for a query.

The table stays as it was read; what is added is an index for each locale and one number a product to look ids up.
"""

from array import array
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from zhichun.core import schema
from zhichun.core.console import Stages
from zhichun.data.readers.whole_catalogue import read_catalogue
from zhichun.serve.page.first_stage import Documents, FirstStage
from zhichun.serve.page.judged_queries import JudgedQueries
from zhichun.text.document import COLUMN_OF
from zhichun.text.fold import fold_locale

Fields = dict[str, str | None]
Report = Callable[[str, int, int], None]
# What the first stage reads. Descriptions are long, and say little that the others do not.
SEARCHED: Final = (schema.TITLE, schema.BRAND, schema.COLOR, schema.BULLETS)
_COLUMNS: Final = {**COLUMN_OF, "product_id": schema.PRODUCT_ID, "locale": schema.LOCALE}
_BATCH: Final = 8192
_EXAMPLE_WORDS: Final = 3
_EXAMPLE_CHARACTERS: Final = 24


@dataclass(frozen=True)
class Hit:
    """A product that was found.

    Parameters
    ----------
    product
        Its fields by short name, with ``product_id`` and ``locale``.
    score
        Of BM25.
    rank
        Its place, from 1.
    """

    product: Fields
    score: float
    rank: int


class Catalogue:
    """Products that can be looked up and searched.

    Parameters
    ----------
    table
        As `read_catalogue` gives it. Products that a step made for training are in no shop, and left out.
    judged
        Judged queries, to be offered as examples.
    report
        Called with (stage, done, total) while the index is made.
    """

    def __init__(self, table: pa.Table, judged: JudgedQueries | None = None, report: Report | None = None) -> None:
        self._table, self._judged = table, judged
        report = report or (lambda stage, done, total: None)
        self._rows, documents = _read(table, report)
        self._stages = {
            locale: FirstStage(found, partial(report, f"indexing {locale}")) for locale, found in documents.items()
        }
        rows = pa.array(np.sort(np.concatenate([[], *self._rows.values()])).astype(np.int64))
        in_order = pc.sort_indices(table.column(schema.PRODUCT_ID).take(rows))
        self._by_id: npt.NDArray[np.int64] = rows.take(in_order).to_numpy()

    @classmethod
    def open(
        cls, path: Path, *, columns: Mapping[str, str] | None = None, locale: str = "us", shown: bool = True
    ) -> "Catalogue":
        """Read a catalogue and index it.

        Parameters
        ----------
        path
            A table of products, a dataset folder or one in the official layout; folders bring judged queries.
        columns, locale
            As `read_catalogue` takes them.
        shown
            Whether to show progress.

        Raises
        ------
        UserError
            For what `read_catalogue` refuses.
        """
        table = read_catalogue(path, columns=columns, locale=locale)
        stages = Stages("products", shown=shown)
        try:
            return cls(table, JudgedQueries.find(path), stages)
        finally:
            stages.stop()

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def locales(self) -> tuple[str, ...]:
        """The locales that have products: those of the dataset in its order, then the others by name."""
        known = [locale for locale in schema.LOCALES if locale in self._stages]
        return (*known, *sorted(set(self._stages) - set(known)))

    def product(self, product_id: str, locale: str | None = None) -> Fields | None:
        """Look a product up.

        Parameters
        ----------
        product_id
            Its id.
        locale
            Its locale; None takes the first one that has it, in the catalogue's order.
        """
        row = self._row(product_id, None if locale is None else fold_locale(locale))
        return None if row is None else self._fields(row)

    def _row(self, product_id: str, locale: str | None) -> int | None:
        ids, locales = self._table.column(schema.PRODUCT_ID), self._table.column(schema.LOCALE)
        place = bisect_left(self._by_id, product_id, key=lambda row: str(ids[int(row)].as_py()))
        for row in map(int, self._by_id[place:]):
            if ids[row].as_py() != product_id:
                return None
            if locale is None or locales[row].as_py() == locale:
                return row
        return None

    def search(self, query: str, locale: str, top: int) -> list[Hit]:
        """Find the products of a locale that share a term with the query, the best first."""
        if locale not in self._stages:
            return []
        rows = self._rows[locale]
        found = self._stages[locale].search(query, top)
        return [Hit(self._fields(int(rows[place])), score, rank) for rank, (place, score) in enumerate(found, start=1)]

    def examples(self, locale: str, count: int = 8) -> list[str]:
        """Give queries to try: judged ones, and where there are none, the beginnings of titles."""
        judged = self._judged.examples(locale, count) if self._judged else []
        return judged or self._from_titles(locale, count)

    @property
    def has_judged(self) -> bool:
        """Whether there are judged queries."""
        return self._judged is not None

    def judgements(self, query: str, locale: str) -> dict[str, str]:
        """Give what people said of a query's products: labels by product id."""
        return self._judged.of(query, locale) if self._judged else {}

    def judged(self, query: str, locale: str) -> list[Hit]:
        """Give the judged products of a query in the order of the first stage; what it misses has the score 0."""
        rows = {self._row(product_id, locale) for product_id in self.judgements(query, locale)}
        found = sorted(row for row in rows if row is not None)
        if not found:
            return []
        score_N = self._stages[locale].scores(query)
        scores = [0.0] * len(found)
        if score_N is not None:
            scores = [float(score_N[bisect_left(self._rows[locale], row)]) for row in found]
        order = sorted(range(len(found)), key=lambda place: -scores[place])
        return [Hit(self._fields(found[place]), scores[place], rank) for rank, place in enumerate(order, start=1)]

    def _fields(self, row: int) -> Fields:
        return {name: self._table.column(column)[row].as_py() for name, column in _COLUMNS.items()}

    def _from_titles(self, locale: str, count: int) -> list[str]:
        rows = self._rows.get(locale, ())
        titles = [self._fields(int(rows[place]))["title"] for place in range(0, len(rows), len(rows) // count or 1)]
        beginnings = [_beginning(title) for title in titles if title]
        return list(dict.fromkeys(filter(None, beginnings)))[:count]


def _beginning(title: str) -> str:
    """Make a query of a title: its first words, or of a text without spaces its first characters."""
    words = " ".join(title.split()[:_EXAMPLE_WORDS])
    if len(words) > _EXAMPLE_CHARACTERS:
        words = words.rsplit(" ", 1)[0][:_EXAMPLE_CHARACTERS]
    return words.strip(" ,;:-–([")


def _read(table: pa.Table, report: Report) -> tuple[dict[str, "array[int]"], dict[str, Documents]]:
    """Give the rows of each locale's products, and their terms."""
    rows: dict[str, array[int]] = {}
    documents: dict[str, Documents] = {}
    wanted = [name for name in (*SEARCHED, schema.LOCALE, schema.ORIGIN) if name in table.column_names]
    start = 0
    for batch in table.select(wanted).to_batches(max_chunksize=_BATCH):
        report("reading products", start, table.num_rows)
        columns: dict[str, list[Any]] = batch.to_pydict()
        origins = columns.get(schema.ORIGIN, [schema.CATALOGUE] * batch.num_rows)
        texts = [" ".join(filter(None, parts)) for parts in zip(*(columns[name] for name in SEARCHED), strict=True)]
        locales = columns[schema.LOCALE]
        for locale in dict.fromkeys(locales):
            chosen = [
                place
                for place, (each, origin) in enumerate(zip(locales, origins, strict=True))
                if each == locale and origin == schema.CATALOGUE
            ]
            if chosen:
                rows.setdefault(locale, array("q")).extend([start + place for place in chosen])
                documents.setdefault(locale, Documents()).add([texts[place] for place in chosen])
        start += batch.num_rows
    return rows, documents
