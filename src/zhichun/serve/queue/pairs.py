"""The pairs of requests as columns, which the scorer reads as they are, and scores by a hash of the content of a pair.

Legend: ``P`` pairs, ``F`` figures of a pair: score, tokens, and the probability of each class.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from zhichun.core import schema
from zhichun.core.tasks import Floats, Prediction, Task
from zhichun.score.given import Columns
from zhichun.score.scorer import PairScorer, tokens_read

SCORE, TOKENS, PROBABILITIES = 0, 1, 2
_SIZE: Final = 16


@dataclass(frozen=True, eq=False)
class PairColumns:
    """The pairs of one request, made once and kept until its reply, or those of one round.

    Parameters
    ----------
    queries, locales
        Of each pair.
    products
        Texts of each pair's product, by the catalogue's column names.
    """

    queries: Sequence[str]
    products: Columns
    locales: Sequence[str]

    def __len__(self) -> int:
        return len(self.queries)

    @cached_property
    def keys(self) -> list[bytes]:
        """A hash of all that decides each pair's score; the cache and the queue know it by this."""
        starts = {pair: _hashed(*pair) for pair in set(zip(self.queries, self.locales, strict=True))}
        keys = []
        texts = zip(*(self.products[name] for name in schema.TEXT_COLUMNS), strict=True)
        for query, locale, row in zip(self.queries, self.locales, texts, strict=True):
            digest = starts[query, locale].copy()
            _update(digest, row)
            keys.append(digest.digest())
        return keys

    @cached_property
    def characters(self) -> list[int]:
        """How much text each pair has, which is what it takes to read it."""
        columns = [self.queries, *(self.products[name] for name in schema.TEXT_COLUMNS)]
        return np.sum([[len(text or "") for text in column] for column in columns], axis=0).tolist()

    @classmethod
    def of(cls, parts: Iterable[tuple["PairColumns", int]]) -> "PairColumns":
        """Put pairs of several requests together, each by its request and its place there."""
        chosen = list(parts)
        return cls(
            [pairs.queries[place] for pairs, place in chosen],
            {name: [pairs.products[name][place] for pairs, place in chosen] for name in schema.TEXT_COLUMNS},
            [pairs.locales[place] for pairs, place in chosen],
        )


def _hashed(*texts: str) -> "hashlib.blake2b":
    digest = hashlib.blake2b(digest_size=_SIZE)
    _update(digest, texts)
    return digest


def _update(digest: "hashlib.blake2b", texts: Iterable[str | None]) -> None:
    for text in texts:
        content = (text or "").encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8, "little"))  # so that no text can flow into the next
        digest.update(content)


def score(scorer: PairScorer, pairs: PairColumns) -> Floats:
    """Score pairs; gives their figures, ``[P, F]``."""
    read = scorer.read(pairs.queries, pairs.products, pairs.locales)
    prediction = scorer.predict(read)
    parts = [prediction.score[:, None], tokens_read(read)[:, None].astype(np.float32)]
    if prediction.probabilities is not None:
        parts.append(prediction.probabilities)
    return np.concatenate(parts, axis=1, dtype=np.float32)


def prediction_of(task: Task, figures_PF: Floats) -> Prediction:
    """Read what was predicted off figures."""
    probabilities_PC = figures_PF[:, PROBABILITIES:] if task.classes else None
    return Prediction(task, probabilities_PC, figures_PF[:, SCORE])


class ScoreCache:
    """Figures of pairs by their keys, in bounded number, the least recently used dropped first.

    It belongs to one event loop.

    Parameters
    ----------
    most
        Pairs that it holds; 0 holds none.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._known: OrderedDict[bytes, Floats] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, keys: Iterable[bytes]) -> dict[bytes, Floats]:
        """Return the figures, ``[F]``, of those that are known."""
        found = {key: self._known[key] for key in keys if key in self._known}
        for key in found:
            self._known.move_to_end(key)
        return found

    def put(self, figures: Mapping[bytes, Floats]) -> None:
        """Keep figures, as many as there is room for."""
        for key, figures_F in figures.items() if self.most else ():
            self._known[key] = figures_F.copy()  # a row of a batch would keep the whole batch
        while len(self._known) > self.most:
            self._known.popitem(last=False)
