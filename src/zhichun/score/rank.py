"""The products of a catalogue: looked up by locale and id, and ranked for one query.

Legend: ``N`` products of the catalogue, ``P`` pairs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zhichun.core import schema
from zhichun.core.arrays import Int64
from zhichun.core.errors import UserError
from zhichun.data.dataset import of_catalogue, product_keys
from zhichun.data.readers.pair_tables import write_tables
from zhichun.score.given import Products, catalogue_of, locale_of, query_of
from zhichun.score.index.scorer import IndexScorer, Nearest
from zhichun.score.scorer import PairScorer
from zhichun.text.pairs import PairTexts

_HASHED_AT_ONCE = 1 << 16


class ProductLookup:
    """Finds products, and gives their texts; they are hashed once, however many chunks of pairs ask for them.

    Beside the catalogue it holds three numbers and a key for each product. Of two products with the same locale and id
    the first is found.

    Parameters
    ----------
    products
        The catalogue, with `schema.PRODUCT_COLUMNS`.
    own
        Further columns of it that are given with the texts.
    """

    def __init__(self, products: pa.Table, own: Sequence[str] = ()) -> None:
        self._products, self._given = products, (*schema.TEXT_COLUMNS, *own)
        self._keys = product_keys(products)
        hashes_N = _hashes(self._keys)
        self._order_N = np.argsort(hashes_N, kind="stable")
        self._hashes_N = hashes_N[self._order_N]
        self._bytes_N = np.zeros(len(hashes_N), np.int64)
        for name in schema.TEXT_COLUMNS:
            self._bytes_N += pc.fill_null(pc.binary_length(products.column(name)), 0).to_numpy()

    def rows(self, locales: pa.Array, ids: pa.Array) -> Int64:
        """Find the row of each product, ``[P]``; -1 where there is none."""
        wanted = product_keys(pa.table({schema.LOCALE: locales, schema.PRODUCT_ID: ids}))
        if not len(self._order_N):
            return np.full(len(wanted), -1)
        places_P = np.searchsorted(self._hashes_N, _hashes(wanted)).clip(max=len(self._order_N) - 1)
        rows_P: Int64 = self._order_N[places_P].astype(np.int64)
        same = pc.fill_null(pc.equal(self._keys.take(pa.array(rows_P)), wanted), False)
        other = np.flatnonzero(~same.to_numpy())
        if len(other):  # it is not there, or another product has its hash
            rows_P[other] = pc.fill_null(pc.index_in(wanted.take(pa.array(other)), value_set=self._keys), -1).to_numpy()
        return rows_P

    def texts(self, rows: Int64) -> dict[str, list[str | None]]:
        """Return the texts of products by column name."""
        found = self._products.select(self._given).take(pa.array(rows))
        return {name: found.column(name).to_pylist() for name in self._given}

    def pieces(self, rows: Int64, most_bytes: int) -> Iterator[slice]:
        """Cut pairs so that the texts of a piece hold no more than so many bytes, its last product left aside.

        Parameters
        ----------
        rows
            Row of each pair's product, ``[P]``.
        most_bytes
            What a piece may hold.
        """
        before_P = np.cumsum(self._bytes_N[rows]) - self._bytes_N[rows]
        starts = [0, *(np.flatnonzero(np.diff(before_P // most_bytes)) + 1).tolist()]
        yield from map(slice, starts, [*starts[1:], len(rows)])


def _hashes(keys: pa.ChunkedArray) -> Int64:
    """Hash texts as Python does, ``[N]``; only a few are Python's at a time."""
    parts = (keys.slice(start, _HASHED_AT_ONCE).to_pylist() for start in range(0, len(keys), _HASHED_AT_ONCE))
    return np.fromiter((hash(key) for part in parts for key in part), np.int64, len(keys))


@dataclass(frozen=True)
class Ranked:
    """One product of a ranking.

    Parameters
    ----------
    product_id, title
        The product.
    score
        What it is ranked by.
    label
        Likeliest class; ``None`` from a regressor.
    probabilities
        Of each class of the task, in its order; empty from a regressor.
    """

    product_id: str
    title: str
    score: float
    label: str | None
    probabilities: tuple[float, ...]


def rank(
    scorer: PairScorer,
    query: str,
    products: Products | pa.Table,
    locale: str | None = None,
    *,
    first: int | None = None,
) -> list[Ranked]:
    """Score all products of a locale and sort them; equal scores stay in the catalogue's order.

    Parameters
    ----------
    scorer
        The model.
    query
        The query.
    products
        Table with `schema.PRODUCT_COLUMNS`; or whatever `Scorer.score` takes, with an ``id`` for each product.
    locale
        Which products, as in `Scorer.score`.
    first
        Of an index: only so many products are scored, those that its first stage finds nearest (`score.index.scorer`);
        all if not given.

    Raises
    ------
    UserError
        For an empty query, a locale without products, or a first stage without an index.
    """
    query, locale = query_of(query), locale_of(locale)
    products = of_catalogue(catalogue_of(products, locale))
    chosen = products.filter(pc.equal(products.column(schema.LOCALE), locale))
    if not chosen.num_rows:
        there = ", ".join(sorted(set(products.column(schema.LOCALE).to_pylist())))
        remedy = f"There are: {there}." if there else "There is none of any other either: give at least one product."
        raise UserError(f"there is no product of the locale {locale!r}.", remedy=remedy)
    own = [name for name in scorer.own if name in chosen.column_names]  # what is not there is missing
    if first is not None:
        if not isinstance(scorer, IndexScorer):
            raise UserError(
                "the first stage reads an index of a split model.", remedy="Leave it out, or: zhichun index RUN"
            )
        if first < 1:
            raise UserError(f"the first stage cannot find {first} products.", remedy="Give 1 or more, or None for all.")
        texts = {name: chosen.column(name).to_pylist() for name in schema.TEXT_COLUMNS}
        chosen = chosen.take(pa.array(np.sort(Nearest.of(scorer, texts).search(query, first))))
    texts = {name: chosen.column(name).to_pylist() for name in (*schema.TEXT_COLUMNS, *own)}
    prediction = scorer.predict(scorer.read(PairTexts([query] * chosen.num_rows, texts, [locale] * chosen.num_rows)))
    labels: Sequence[str | None] = prediction.labels or [None] * chosen.num_rows
    ids = chosen.column(schema.PRODUCT_ID).to_pylist()
    probabilities = np.zeros((chosen.num_rows, 0)) if prediction.probabilities is None else prediction.probabilities
    return [
        Ranked(ids[row], texts[schema.TITLE][row] or "", float(prediction.score[row]), labels[row], tuple(given))
        for row in np.argsort(-prediction.score, kind="stable").tolist()
        for given in [probabilities[row].tolist()]
    ]


def write_ranking(
    out: Path, ranked: Sequence[Ranked], query: str, locale: str, classes: Sequence[str], query_id: str = "1"
) -> None:
    """Write a ranking as a table, or as a TREC run file (``.run``)."""
    size, scores = len(ranked), np.array([each.score for each in ranked], np.float32)
    columns: dict[str, Any] = {schema.QUERY_ID: [query_id] * size, schema.QUERY: [query] * size}
    columns |= {schema.LOCALE: [locale] * size, schema.PRODUCT_ID: [each.product_id for each in ranked]}
    columns |= {schema.TITLE: [each.title for each in ranked], "rank": range(1, size + 1)}
    if classes:
        columns["label"] = pa.array([each.label for each in ranked], pa.string())
        shares = np.array([each.probabilities for each in ranked], np.float32).reshape(-1, len(classes))
        columns |= {f"p_{name}": shares[:, place] for place, name in enumerate(classes)}
    table = pa.table({**columns, "score": scores})
    write_tables([table], table.schema, out)
