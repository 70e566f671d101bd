"""Products read once: tokens, trigrams and ids by a hash of the texts; the least recently used go first.

A scoring job reads each distinct product of a chunk once anyhow; this is for a server, which scores the same
products again and again.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from zhichun.core import schema
from zhichun.core.arrays import Ragged
from zhichun.text.features import Featurizer, ProductFeatures, Texts

MOST_BYTES: Final = 256 << 20
_OVERHEAD: Final = 600  # of an entry beside its numbers: the key, the objects, the places in the dictionary


# Features of one product: its parts of `ProductFeatures`, in their order.
Known = tuple[Any, ...]


class FeatureCache:
    """Features of products by content, in bounded memory; may be used by several threads.

    Parameters
    ----------
    most_bytes
        Memory that it may take.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes = most_bytes
        self.bytes = 0
        self._known: OrderedDict[bytes, Known] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Known]:
        """Return those that are known."""
        found = {}
        with self._lock:
            for key in keys:
                if (known := self._known.get(key)) is not None:
                    self._known.move_to_end(key)
                    found[key] = known
        return found

    def put(self, products: Mapping[bytes, Known]) -> None:
        """Keep products, and drop the least recently used until all fit."""
        with self._lock:
            for key, product in products.items():
                if key not in self._known:
                    self._known[key] = product
                    self.bytes += _bytes(product)
            while self.bytes > self.most_bytes:
                self.bytes -= _bytes(self._known.popitem(last=False)[1])


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
            made = dict(zip(unknown, _split(super().products(given, most)), strict=True))
            self.cache.put(made)
            known |= made
        return _joined([known[key] for key in keys]) if keys else super().products(columns, most)


def _key(product: Sequence[str | None], most: int | None) -> bytes:
    digest = hashlib.blake2b(f"{most} ".encode(), digest_size=16)
    for text in product:
        content = (text or "").encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8, "little"))  # so that no text can flow into the next
        digest.update(content)
    return digest.digest()


def _split(features: ProductFeatures) -> list[Known]:
    """Copy each product's parts of a batch, which is then free to go."""
    parts = vars(features).values()
    return [tuple(None if part is None else part[row].copy() for part in parts) for row in range(len(features.tokens))]


def _joined(products: Sequence[Known]) -> ProductFeatures:
    """Put products' parts together, as a batch of them would have these."""
    parts: list[Any] = []
    for values in zip(*products, strict=True):
        if values[0] is None:
            parts.append(None)
        else:
            parts.append(np.asarray(values, np.int32) if np.isscalar(values[0]) else Ragged.from_rows(values))
    return ProductFeatures(*parts)


def _bytes(product: Known) -> int:
    return _OVERHEAD + sum(part.nbytes for part in product if part is not None)
