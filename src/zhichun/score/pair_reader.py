"""Reads the texts of pairs to be scored: own columns or a catalogue's, with the rows that cannot be scored left out.

Legend: ``P`` pairs of a part.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from zhichun.core import schema
from zhichun.core.arrays import Int64
from zhichun.data.prepare.clean_catalogue import read_catalogue
from zhichun.data.readers.pair_tables import texts
from zhichun.data.readers.rejected import (
    EMPTY_QUERY,
    LONG_LIST,
    NO_PRODUCT,
    OnBadRows,
    Reason,
    Refusal,
    Refusals,
    Say,
)
from zhichun.data.readers.sources import PAIRS, describe_columns, kept_columns, match_pairs
from zhichun.data.readers.table import Table
from zhichun.score.engines.engine import LONGEST_LIST
from zhichun.score.parts import Part
from zhichun.score.rank import ProductLookup
from zhichun.text.clean import clean_text
from zhichun.text.document import PairTexts
from zhichun.text.fold import fold_locales, trim_ids

OF_CATALOGUE = "products."


@dataclass(frozen=True)
class PairReader:
    """Reads the texts of pairs.

    Parameters
    ----------
    table
        The first file, in which columns are found.
    own
        Further columns that the model reads.
    whole_lists
        Whether the model reads lists.
    catalogue, columns, locale, on_bad_rows, say, most_bytes
        As for `zhichun.score.job.ScoringJob`.
    """

    table: Table
    own: Sequence[str]
    whole_lists: bool
    catalogue: Path | None
    columns: Mapping[str, str]
    locale: str
    on_bad_rows: OnBadRows
    say: Say
    most_bytes: int

    @cached_property
    def found(self) -> dict[str, str]:
        """Which column of the pairs holds what is needed of them."""
        columns = match_pairs(of_pairs(self.columns), self.table, catalogue=self.catalogue is not None)
        if self.catalogue is None:
            columns |= kept_columns(self.own, self.table)
        for line in describe_columns(PAIRS, columns, self.table):
            self.say(line)
        return columns

    @property
    def list_columns(self) -> list[str]:
        """The columns that say which list a row belongs to; none for models that do not read lists."""
        names = (schema.QUERY, schema.LOCALE) if self.whole_lists else ()
        return [self.found[name] for name in names if name in self.found]

    def read(self, part: Part, rejected: Refusals) -> Iterator[tuple[Int64, PairTexts]]:
        """Read the texts of a part, no more at once than are to be held; rows that cannot be scored are refused.

        Returns
        -------
        iterator
            Places in the part, ``[P]``, and their texts.
        """
        bad = _Bad(part, rejected)
        given = {field: texts(part.pairs, of, part.file, part.rows_N, bad) for field, of in self.found.items()}
        queries = [query or "" for query in given.pop(schema.QUERY)]
        for place, query in enumerate(queries):
            if not clean_text(query):
                bad.refuse(place, EMPTY_QUERY, repr(query))
        locales = fold_locales(_column(given.pop(schema.LOCALE, None)), self.locale, len(queries))
        rows_P: Int64 | None = None
        if self.catalogue is not None:
            rows_P = self._rows(given[schema.PRODUCT_ID], locales, bad)
        if self.whole_lists:
            self._refuse_long_lists(list(zip(queries, locales.to_pylist(), strict=True)), bad)
        kept_P = np.flatnonzero(~bad.bad_P)
        for piece in self._pieces(rows_P, kept_P):
            places_P = kept_P[piece]
            at = places_P.tolist()
            products = (
                {field: [of[place] for place in at] for field, of in given.items()}
                if rows_P is None
                else self._products.texts(rows_P[places_P])
            )
            found = locales.take(pa.array(places_P)).to_pylist()
            yield places_P, PairTexts([queries[place] for place in at], products, found)

    def _rows(self, given: list[str | None], locales: pa.Array, bad: "_Bad") -> Int64:
        """Find the catalogue's row of each product."""
        ids = trim_ids(_column(given))
        rows_P = self._products.rows(locales, ids) if len(ids) else np.zeros(0, np.int64)
        for place in np.flatnonzero(rows_P < 0).tolist():
            bad.refuse(place, NO_PRODUCT, f"{ids[place].as_py()!r} in the locale {locales[place].as_py()!r}")
        return rows_P

    def _refuse_long_lists(self, lists: Sequence[Any], bad: "_Bad") -> None:
        kept = [lists[place] for place in np.flatnonzero(~bad.bad_P).tolist()]
        sizes: dict[Any, int] = {}
        for name in kept:
            sizes[name] = sizes.get(name, 0) + 1
        for place, name in enumerate(lists):
            if sizes.get(name, 0) > LONGEST_LIST:
                bad.refuse(place, LONG_LIST, f"{sizes[name]:,} candidates, and {LONGEST_LIST:,} are read at most")

    def _pieces(self, rows_P: Int64 | None, kept_P: Int64) -> Iterator[slice]:
        if rows_P is None or self.whole_lists or not len(kept_P):
            yield slice(None)
        else:
            yield from self._products.pieces(rows_P[kept_P], self.most_bytes)

    @cached_property
    def _products(self) -> ProductLookup:
        assert self.catalogue is not None
        return look_up(self.catalogue, self.columns, self.locale, self.on_bad_rows, self.own, self.say)


def of_pairs(columns: Mapping[str, str]) -> dict[str, str]:
    """Leave out the own column names that are of the catalogue."""
    return {name: column for name, column in columns.items() if not name.startswith(OF_CATALOGUE)}


def look_up(
    catalogue: Path, columns: Mapping[str, str], locale: str, on_bad_rows: OnBadRows, own: Sequence[str], say: Say
) -> ProductLookup:
    """Read a catalogue to look products up in, by those of the columns that are named for it."""
    named = {name: column for name, column in columns.items() if name.startswith(OF_CATALOGUE)}
    products = read_catalogue(catalogue, locale=locale, columns=named, on_bad_rows=on_bad_rows, keep=own, say=say)
    return ProductLookup(products, own)


class _Bad(Refusals):
    """The rows of a part that cannot be scored, each refused once."""

    def __init__(self, part: Part, rejected: Refusals) -> None:
        self._part, self._rejected = part, rejected
        self.bad_P: npt.NDArray[np.bool_] = np.zeros(part.pairs.num_rows, np.bool_)

    def add(self, refusal: Refusal, record: Any) -> None:
        """Refuse a row by its number."""
        self.refuse(int(np.searchsorted(self._part.rows_N, refusal.row)), refusal.reason, refusal.detail)

    def refuse(self, place: int, reason: Reason, detail: str) -> None:
        """Refuse a row by its place."""
        if not self.bad_P[place]:
            self.bad_P[place] = True
            self._part.refuse(place, reason, detail, self._rejected)


def _column(values: list[str | None] | None) -> pa.Array | None:
    return None if values is None else pa.array(values, pa.large_string())
