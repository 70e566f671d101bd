"""The server's catalogue: products by id, and first-stage retrieval.

It is the table with an index per locale and one of the ids.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zhichun.core import schema
from zhichun.core.arrays import Int64
from zhichun.core.console import Stages, say_aside
from zhichun.core.schema import MANIFEST_FILE
from zhichun.data.dataset import of_catalogue, read_parquet
from zhichun.data.prepare.clean_catalogue import read_catalogue
from zhichun.data.readers.rejected import OnBadRows, silent
from zhichun.score.index.scorer import IndexScorer, Nearest
from zhichun.score.rank import ProductLookup
from zhichun.text.bm25 import FirstStage, read_documents
from zhichun.text.clean import clean_column
from zhichun.text.fold import fold_column, fold_query, trim_ids

Fields = dict[str, str | None]
Report = Callable[[str, int, int], None]
_COLUMNS: Final = {**schema.COLUMN_OF, "product_id": schema.PRODUCT_ID, "locale": schema.LOCALE}
_JUDGED_COLUMNS: Final = [schema.QUERY, schema.PRODUCT_ID, schema.LOCALE, schema.LABEL, schema.SPLIT]
_BATCH: Final = 8192
_EXAMPLE_WORDS: Final = 3
_EXAMPLE_CHARACTERS: Final = 24


@dataclass(frozen=True)
class Hit:
    """A retrieved product.

    Parameters
    ----------
    product
        Its fields by short name, with ``product_id`` and ``locale``.
    score
        Of BM25.
    """

    product: Fields
    score: float


class Catalogue:
    """Products that can be looked up and searched.

    Parameters
    ----------
    table
        From `read_catalogue`. Synthetic training products are left out.
    judged
        Judged queries, as examples.
    report
        Called with (stage, done, total) while indexing.
    own
        Further columns of the table that the model reads.
    """

    def __init__(
        self,
        table: pa.Table,
        judged: "JudgedQueries | None" = None,
        report: Report | None = None,
        own: Sequence[str] = (),
    ) -> None:
        self._judged, self._own = judged, tuple(own)
        report = report or (lambda stage, done, total: None)
        self._table = table = of_catalogue(table)
        self._rows, documents = read_documents(table, report)
        self._stages = {
            locale: FirstStage(found, partial(report, f"indexing {locale}")) for locale, found in documents.items()
        }
        self._lookup = ProductLookup(table)
        self._nearest: dict[str, Nearest] = {}

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        columns: Mapping[str, str] | None = None,
        locale: str = "us",
        on_bad_rows: OnBadRows = "fail",
        own: Sequence[str] = (),
        shown: bool = True,
    ) -> "Catalogue":
        """Read a catalogue and index it.

        Parameters
        ----------
        path
            A table of products, a dataset folder or one in the official layout; folders bring judged queries.
        columns, locale, on_bad_rows
            As in `read_catalogue`.
        own
            Further columns that the model reads.
        shown
            Whether to show progress, and which columns are used.

        Raises
        ------
        UserError
            For what `read_catalogue` refuses.
        """
        say = say_aside if shown else silent
        table = read_catalogue(path, columns=columns, locale=locale, on_bad_rows=on_bad_rows, keep=own, say=say)
        with Stages("products", shown=shown) as stages:
            return cls(table, JudgedQueries.find(path), stages, own)

    def __len__(self) -> int:
        return self._table.num_rows

    @property
    def locales(self) -> tuple[str, ...]:
        """The locales that have products: those of the dataset in its order, then the others by name."""
        known = [locale for locale in schema.LOCALES if locale in self._stages]
        return (*known, *sorted(set(self._stages) - set(known)))

    def find(self, ids: Sequence[str], locales: Sequence[str | None]) -> Int64:
        """Find the row of each product, ``[P]``; -1 where there is none.

        Parameters
        ----------
        ids
            Their ids.
        locales
            The locale of each; None takes the first one that has it, in the catalogue's order.
        """
        wanted = trim_ids(pa.array(ids, pa.large_string()))
        if None not in locales:
            return self._lookup.rows(pa.array(locales, pa.large_string()), wanted)
        first_P = np.full(len(ids), len(self))
        for locale in self.locales:
            rows_P = self.find(ids, [given or locale for given in locales])
            first_P = np.minimum(first_P, np.where(rows_P < 0, len(self), rows_P))
        return np.where(first_P == len(self), -1, first_P)

    def columns(self, rows: Int64) -> dict[str, list[str | None]]:
        """Return the texts of some products, their locales and the columns of their own, by column name."""
        found = self._table.select([*schema.TEXT_COLUMNS, schema.LOCALE, *self._own]).take(pa.array(rows))
        return {name: found.column(name).to_pylist() for name in found.column_names}

    def products(self, rows: Sequence[int] | Int64) -> list[Fields]:
        """Return some products, each by the short names of its fields, and the columns of its own."""
        found = self._table.select([*_COLUMNS.values(), *self._own]).take(pa.array(rows, pa.int64()))
        return found.rename_columns([*_COLUMNS, *self._own]).to_pylist()

    def search(self, query: str, locale: str, top: int) -> list[Hit]:
        """Find the products of a locale that share a term with the query, best first."""
        if locale not in self._stages:
            return []
        rows = self._rows[locale]
        found = self._stages[locale].search(query, top)
        return self._hits([rows[place] for place, _ in found], [score for _, score in found])

    def nearest(self, scorer: IndexScorer, locale: str) -> Nearest:
        """Look the products of a locale up in an index, once."""
        if locale not in self._nearest:
            self._nearest[locale] = Nearest.of(scorer, self.columns(np.asarray(self._rows[locale], np.int64)))
        return self._nearest[locale]

    def products_of(self, locale: str, places: Int64) -> list[Fields]:
        """Return products by their places among those of a locale."""
        return self.products([self._rows[locale][place] for place in places.tolist()])

    def examples(self, locale: str, count: int = 8) -> list[str]:
        """Return example queries: judged ones, or else the beginnings of titles."""
        judged = self._judged.examples(locale, count) if self._judged else []
        return judged or self._from_titles(locale, count)

    @property
    def has_judged(self) -> bool:
        """Whether there are judged queries."""
        return self._judged is not None

    def judgements(self, query: str, locale: str) -> dict[str, str]:
        """Return the judgements of a query: labels by product id."""
        return self._judged.of(query, locale) if self._judged else {}

    def judged(self, query: str, locale: str) -> list[Hit]:
        """Return the judged products of a query in the first stage's order; those that it misses have score 0."""
        ids = list(self.judgements(query, locale))
        found_H = np.unique(self.find(ids, [locale] * len(ids)))
        found_H = found_H[found_H >= 0]
        if not len(found_H):
            return []
        score_H = self._stages[locale].scores(query)[np.searchsorted(self._rows[locale], found_H)]
        order_H = np.argsort(-score_H, kind="stable")
        return self._hits(found_H[order_H], score_H[order_H].tolist())

    def _hits(self, rows: Sequence[int] | Int64, scores: Sequence[float]) -> list[Hit]:
        return [Hit(*each) for each in zip(self.products(rows), scores, strict=True)]

    def _from_titles(self, locale: str, count: int) -> list[str]:
        rows = self._rows.get(locale, ())
        titles = (
            self._table.column(schema.TITLE).take(pa.array(rows[:: len(rows) // count or 1], pa.int64())).to_pylist()
        )
        return list(dict.fromkeys(filter(None, [_beginning(title) for title in titles if title])))[:count]


def _beginning(title: str) -> str:
    """Make a query from a title: its first words, or without spaces its first characters."""
    words = " ".join(title.split()[:_EXAMPLE_WORDS])
    if len(words) > _EXAMPLE_CHARACTERS:
        words = words.rsplit(" ", 1)[0][:_EXAMPLE_CHARACTERS]
    return words.strip(" ,;:-–([")


class JudgedQueries:
    """The judged test pairs.

    Parameters
    ----------
    pairs
        With query, product id, locale, label and split. Training pairs are left out if there are others: a model
        that repeats training labels shows nothing.
    """

    def __init__(self, pairs: pa.Table) -> None:
        if schema.ORIGIN in pairs.column_names:
            pairs = pairs.filter(pc.equal(pairs.column(schema.ORIGIN), schema.JUDGED))
        pairs = pairs.filter(pc.is_in(pairs.column(schema.LABEL), value_set=pa.array(schema.LABELS)))
        tested = pairs.filter(pc.equal(pairs.column(schema.SPLIT), schema.TEST))
        self._pairs = (tested if tested.num_rows else pairs).select(_JUDGED_COLUMNS)
        self._keys = fold_column(self._pairs.column(schema.QUERY).combine_chunks(), fold_query)

    @classmethod
    def find(cls, folder: Path) -> "JudgedQueries | None":
        """Open the judgements of a dataset folder or one in the official layout."""
        if (folder / MANIFEST_FILE).is_file() and (folder / schema.EXAMPLES_FILE).is_file():
            return cls(read_parquet(folder / schema.EXAMPLES_FILE, columns=[*_JUDGED_COLUMNS, schema.ORIGIN]))
        if (folder / schema.OFFICIAL_EXAMPLES_FILE).is_file():
            pairs = read_parquet(folder / schema.OFFICIAL_EXAMPLES_FILE, columns=_JUDGED_COLUMNS)
            return cls(pairs.set_column(0, schema.QUERY, clean_column(pairs.column(schema.QUERY))))
        return None

    def examples(self, locale: str, count: int) -> list[str]:
        """Choose informative queries: those with the most distinct labels, then the most products."""
        pairs = self._pairs.filter(pc.equal(self._pairs.column(schema.LOCALE), locale))
        counted = [(schema.LABEL, "count_distinct"), (schema.PRODUCT_ID, "count")]
        queries = pairs.group_by(schema.QUERY).aggregate(counted)
        keys: list[Any] = [(f"{name}_{kind}", "descending") for name, kind in counted]
        return list(queries.sort_by([*keys, (schema.QUERY, "ascending")]).column(schema.QUERY)[:count].to_pylist())

    def of(self, query: str, locale: str) -> dict[str, str]:
        """Return the labels of a query's products by their id."""
        column, key = self._pairs.column, fold_query(query)
        found = self._pairs.filter(pc.and_(pc.equal(self._keys, key), pc.equal(column(schema.LOCALE), locale)))
        ids, labels = (found.column(name).to_pylist() for name in (schema.PRODUCT_ID, schema.LABEL))
        return dict(zip(ids, labels, strict=True))
