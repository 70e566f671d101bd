"""Rank the products of a catalogue for one query."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zhichun.core import schema
from zhichun.core.errors import UserError
from zhichun.score.given import Products, catalogue_of, locale_of, query_of
from zhichun.score.scorer import PairScorer


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


def rank(scorer: PairScorer, query: str, products: Products | pa.Table, locale: str | None = None) -> list[Ranked]:
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

    Raises
    ------
    UserError
        For an empty query, or a locale without products.
    """
    query, locale = query_of(query), locale_of(locale)
    products = catalogue_of(products, locale)
    if schema.ORIGIN in products.column_names:  # products that a step made for training are in no shop
        products = products.filter(pc.equal(products.column(schema.ORIGIN), schema.CATALOGUE))
    chosen = products.filter(pc.equal(products.column(schema.LOCALE), locale))
    if not chosen.num_rows:
        there = ", ".join(sorted(set(products.column(schema.LOCALE).to_pylist())))
        remedy = f"There are: {there}." if there else "There is none of any other either: give at least one product."
        raise UserError(f"there is no product of the locale {locale!r}.", remedy=remedy)
    texts = {name: chosen.column(name).to_pylist() for name in schema.TEXT_COLUMNS}
    prediction = scorer.predict(scorer.read([query] * chosen.num_rows, texts, [locale] * chosen.num_rows))
    labels: Sequence[str | None] = prediction.labels or [None] * chosen.num_rows
    ids = chosen.column(schema.PRODUCT_ID).to_pylist()
    probabilities = np.zeros((chosen.num_rows, 0)) if prediction.probabilities is None else prediction.probabilities
    return [
        Ranked(ids[row], texts[schema.TITLE][row] or "", float(prediction.score[row]), labels[row], tuple(given))
        for row in np.argsort(-prediction.score, kind="stable").tolist()
        for given in [probabilities[row].tolist()]
    ]
