"""Products read once: tokens, trigrams and ids by a hash of the texts; the least recently used go first.

A scoring job reads each distinct product of a chunk once anyhow; this is for a server, which scores the same
products again and again.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from zhichun.core import schema
from zhichun.core.arrays import Int32, Ragged
from zhichun.text.features import Featurizer, ProductFeatures, Texts

MOST_BYTES: Final = 256 << 20
_OVERHEAD: Final = 600  # of an entry beside its numbers: the key, the objects, the places in the dictionary


@dataclass(frozen=True)
class KnownProduct:
    """Features of one product; ``None`` where the model does not have the part."""

    tokens: Int32
    trigrams: Int32 | None
    description_trigrams: Int32 | None
    brand: int | None
    color: int | None

    @property
    def bytes(self) -> int:
        """Memory that it takes."""
        rows = (self.tokens, self.trigrams, self.description_trigrams)
        return _OVERHEAD + sum(row.nbytes for row in rows if row is not None)


class FeatureCache:
    """Features of products by content, in bounded memory; may be used by several threads.

    Parameters
    ----------
    most_bytes
        Memory that it may take.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes = most_bytes
        self.bytes = self.hits = self.misses = 0
        self._known: OrderedDict[bytes, KnownProduct] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, keys: Sequence[bytes]) -> dict[bytes, KnownProduct]:
        """Return those that are known."""
        found = {}
        with self._lock:
            for key in keys:
                if (known := self._known.get(key)) is not None:
                    self._known.move_to_end(key)
                    found[key] = known
            self.hits += len(found)
            self.misses += len(keys) - len(found)
        return found

    def put(self, products: Mapping[bytes, KnownProduct]) -> None:
        """Keep products, and drop the least recently used until all fit."""
        with self._lock:
            for key, product in products.items():
                if key not in self._known:
                    self._known[key] = product
                    self.bytes += product.bytes
            while self.bytes > self.most_bytes:
                self.bytes -= self._known.popitem(last=False)[1].bytes


@dataclass(frozen=True)
class CachingFeaturizer(Featurizer):
    """A featurizer that reads a product it has seen from a cache.

    Parameters
    ----------
    cache
        Where what was read is kept.
    """

    cache: FeatureCache = field(default_factory=FeatureCache)

    @classmethod
    def of(cls, featurizer: Featurizer, most_bytes: int = MOST_BYTES) -> "CachingFeaturizer":
        """Return a featurizer a cache."""
        parts = (featurizer.trigrams, featurizer.brands, featurizer.colors)
        return cls(featurizer.tokenizer, featurizer.fields, *parts, cache=FeatureCache(most_bytes))

    def products(self, columns: Mapping[str, Texts], most: int | None = None) -> ProductFeatures:
        """Return the features of products; the same as without a cache."""
        rows = len(next(iter(columns.values())))
        texts = list(zip(*(columns.get(name) or [None] * rows for name in schema.TEXT_COLUMNS), strict=True))
        keys = [_key(product, most) for product in texts]
        known = self.cache.get(list(dict.fromkeys(keys)))
        unknown = {key: product for key, product in zip(keys, texts, strict=True) if key not in known}
        if unknown:
            given = dict(zip(schema.TEXT_COLUMNS, zip(*unknown.values(), strict=True), strict=True))
            made = dict(zip(unknown, _rows(super().products(given, most), len(unknown)), strict=True))
            self.cache.put(made)
            known |= made
        return self._joined([known[key] for key in keys])

    def _joined(self, products: Sequence[KnownProduct]) -> ProductFeatures:
        def bags(name: str) -> Ragged | None:
            return None if self.trigrams is None else _ragged([getattr(product, name) for product in products])

        def ids(name: str) -> Int32 | None:
            values = [getattr(product, name) for product in products]
            return None if getattr(self, f"{name}s") is None else np.asarray(values, np.int32)

        tokens = _ragged([product.tokens for product in products])
        return ProductFeatures(tokens, bags("trigrams"), bags("description_trigrams"), ids("brand"), ids("color"))


def _key(product: Sequence[str | None], most: int | None) -> bytes:
    digest = hashlib.blake2b(f"{most} ".encode(), digest_size=16)
    for text in product:
        content = (text or "").encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8, "little"))  # so that no text can flow into the next
        digest.update(content)
    return digest.digest()


def _rows(features: ProductFeatures, count: int) -> list[KnownProduct]:
    """Copy each product's part of a batch, which is then free to go."""

    def row(rows: Ragged | None, place: int) -> Int32 | None:
        return None if rows is None else rows[place].copy()

    return [
        KnownProduct(
            tokens=features.tokens[place].copy(),
            trigrams=row(features.trigrams, place),
            description_trigrams=row(features.description_trigrams, place),
            brand=None if features.brand is None else int(features.brand[place]),
            color=None if features.color is None else int(features.color[place]),
        )
        for place in range(count)
    ]


def _ragged(rows: Sequence[Int32]) -> Ragged:
    offsets_R1 = np.concatenate([np.zeros(1, np.int64), np.cumsum([len(row) for row in rows], dtype=np.int64)])
    return Ragged.from_flat(np.concatenate(rows) if rows else np.zeros(0, np.int32), offsets_R1)
