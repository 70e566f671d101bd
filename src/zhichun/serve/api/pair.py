"""A pair as the queue and the cache see it: texts, locale and the hash of both.

Legend: ``P`` pairs, ``C`` classes, ``F`` figures: score, tokens, and the probability of each class.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from zhichun.core import schema
from zhichun.core.tasks import Floats, Prediction, Task
from zhichun.score.given import Product, columns_of
from zhichun.score.pair_scorer import PairScorer

SCORE, TOKENS, PROBABILITIES = 0, 1, 2


class Pair(NamedTuple):
    """One query and one product.

    Parameters
    ----------
    query
        The query.
    texts
        The product's, in the order of `schema.TEXT_COLUMNS`.
    locale
        Of both.
    """

    query: str
    texts: tuple[str | None, ...]
    locale: str

    @property
    def characters(self) -> int:
        """What it takes to read the pair."""
        return len(self.query) + sum(len(text) for text in self.texts if text)

    @property
    def key(self) -> bytes:
        """Hash of all that decides the pair's score."""
        digest = hashlib.blake2b(digest_size=16)
        for text in (self.query, self.locale, *self.texts):
            content = (text or "").encode("utf-8", "surrogatepass")
            digest.update(len(content).to_bytes(8, "little"))  # so that no text can flow into the next
            digest.update(content)
        return digest.digest()


def pairs_of(query: str, products: Sequence[Product], locale: str) -> list[Pair]:
    """Put a query beside each of some products.

    Raises
    ------
    UserError
        For a product with a field that is unknown or holds no text.
    """
    columns, locales = columns_of(products, locale)
    texts = zip(*(columns[name] for name in schema.TEXT_COLUMNS), strict=True)
    return [Pair(query, row, its_locale) for row, its_locale in zip(texts, locales, strict=True)]


def score(scorer: PairScorer, pairs: Sequence[Pair]) -> Floats:
    """Score pairs; gives their figures, ``[P, F]``."""
    queries, locales = [pair.query for pair in pairs], [pair.locale for pair in pairs]
    texts = zip(*(pair.texts for pair in pairs), strict=True)
    columns = {name: list(column) for name, column in zip(schema.TEXT_COLUMNS, texts, strict=True)}
    prediction, tokens_P = scorer.score_counted(queries, columns, locales)
    parts = [prediction.score[:, None], tokens_P[:, None].astype(np.float32)]
    if prediction.probabilities is not None:
        parts.append(prediction.probabilities)
    return np.concatenate(parts, axis=1, dtype=np.float32)


def prediction_of(task: Task, figures_PF: Floats) -> Prediction:
    """Read what was predicted off figures."""
    probabilities_PC = figures_PF[:, PROBABILITIES:] if task.classes else None
    return Prediction(task, probabilities_PC, figures_PF[:, SCORE])
