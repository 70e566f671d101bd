"""All features of a query or a product, computed once and in one place.

Training, scoring and serving all go through :class:`Featurizer`, so that the same text gives the same score everywhere.

A scoring job reads each distinct product of a chunk once. A server, which scores the same products again and again,
keeps what it read of them by a hash of their texts; the least recently used go first.
"""

import hashlib
import threading
from array import array
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from zhichun.core import schema
from zhichun.core.arrays import Int32, Int64, Ragged
from zhichun.text.clean import clean_text
from zhichun.text.fold import MAY_BE_MISSING, says_missing
from zhichun.text.tokenizer import PairTokenizer
from zhichun.text.trigrams import TrigramVocabulary
from zhichun.text.vocabulary import Vocabulary

Texts = Sequence[str | None]
Rows = npt.NDArray[np.integer[Any]]
Arrays = dict[str, npt.NDArray[Any]]

# What is read of a text at all, by tokens, trigrams and ids alike: no seller writes more that a model could learn from.
MOST_CHARACTERS: Final = 1 << 15
# And of a word: scripts without spaces have shorter runs, and tokenisers take a run as one piece of work.
MOST_OF_A_WORD: Final = 1 << 12

# The semantic unit's two bags of a product; the query's bag is the third (docs/method.md).
MAIN_BAG = (schema.TITLE, schema.BRAND, schema.COLOR, schema.BULLETS)
DESCRIPTION_BAG = (schema.DESCRIPTION,)


@dataclass(frozen=True)
class QueryFeatures:
    """Features of R queries: tokens and, where the model has a semantic unit, the trigrams of each."""

    tokens: Ragged
    trigrams: Ragged | None

    def side(self, rows: Rows) -> Arrays:
        """Make the arrays of the side features of some queries, as `Pairs.collate` gives them."""
        return _joined({"query_trigrams": self.trigrams}, rows)


@dataclass(frozen=True)
class ProductFeatures:
    """Features of R products: tokens, two bags of trigrams, and the ids of brand and color (``[R]``, 0 unknown)."""

    tokens: Ragged
    trigrams: Ragged | None
    description_trigrams: Ragged | None
    brand: Int32 | None
    color: Int32 | None

    def side(self, rows: Rows) -> Arrays:
        """Make the arrays of the side features of some products, as `Pairs.collate` gives them."""
        ids = {"brand": self.brand, "color": self.color}
        bags = {"product_trigrams": self.trigrams, "description_trigrams": self.description_trigrams}
        return {name: of[rows].astype(np.int64) for name, of in ids.items() if of is not None} | _joined(bags, rows)


@dataclass(frozen=True)
class Featurizer:
    """Turns texts into features.

    Parameters
    ----------
    tokenizer
        The encoder's tokenizer.
    fields
        The order of the document's fields.
    trigrams, brands, colors
        Vocabularies; ``None`` where the model does not have the part.
    """

    tokenizer: PairTokenizer
    fields: tuple[str, ...]
    trigrams: TrigramVocabulary | None = None
    brands: Vocabulary | None = None
    colors: Vocabulary | None = None

    def queries(self, texts: Texts, most: int | None = None) -> QueryFeatures:
        """Compute the features of queries, with only the first tokens that are needed."""
        cleaned = _clean(texts)
        trigrams = None if self.trigrams is None else self.trigrams.bags([cleaned])
        return QueryFeatures(self.tokenizer.encode(cleaned, most), trigrams)

    def products(self, columns: Mapping[str, Texts], most: int | None = None) -> ProductFeatures:
        """Compute the features of products.

        Parameters
        ----------
        columns
            Texts by column name of the catalogue; a column that is missing counts as empty.
        most
            Maximum number of tokens, as in `PairTokenizer.encode`; the other features read the whole text.
        """
        cleaned = _cleaned(columns)
        bags: list[Ragged | None] = [None, None]
        if self.trigrams is not None:
            bags = [self.trigrams.bags([cleaned[name] for name in bag]) for bag in (MAIN_BAG, DESCRIPTION_BAG)]
        return ProductFeatures(
            tokens=self.tokenizer.encode_documents([cleaned[schema.COLUMN_OF[field]] for field in self.fields], most),
            trigrams=bags[0],
            description_trigrams=bags[1],
            brand=None if self.brands is None else self.brands.index(cleaned[schema.BRAND]),
            color=None if self.colors is None else self.colors.index(cleaned[schema.COLOR]),
        )

    def documents(self, columns: Mapping[str, Texts]) -> list[str]:
        """Write each product as the one text that other software has to give the encoder's tokenizer."""
        cleaned, plain = _cleaned(columns), self.tokenizer.plain
        rows = zip(*(cleaned[schema.COLUMN_OF[field]] for field in self.fields), strict=True)
        return [self.tokenizer.separator.join(map(plain, row)) for row in rows]

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that determines the features: tokenizer, template and vocabularies."""
        digest = hashlib.sha256(f"2 {self.tokenizer.fingerprint} {'|'.join(self.fields)}".encode())
        for part in (self.trigrams, self.brands, self.colors):
            digest.update(b"-" if part is None else part.fingerprint.encode())
        return digest.hexdigest()[:16]

    def save(self, folder: Path) -> None:
        """Write tokenizer and vocabularies into a model folder."""
        self.tokenizer.save(folder)
        vocabulary = folder / "vocabulary"
        for name, part in (("trigrams", self.trigrams), ("brands", self.brands), ("colors", self.colors)):
            if part is not None:
                part.save(vocabulary / f"{name}.parquet")

    @classmethod
    def load(
        cls, folder: Path, fields: tuple[str, ...], features: Collection[str], tokenizer: PairTokenizer | None = None
    ) -> "Featurizer":
        """Load the vocabularies of a model's side features, from its folder or, with a tokenizer, from a dataset."""
        vocabulary = folder / "vocabulary"
        return cls(
            tokenizer=tokenizer or PairTokenizer.load(folder),
            fields=fields,
            trigrams=TrigramVocabulary.load(vocabulary / "trigrams.parquet") if "trigrams" in features else None,
            brands=Vocabulary.load(vocabulary / "brands.parquet") if "brand" in features else None,
            colors=Vocabulary.load(vocabulary / "colors.parquet") if "color" in features else None,
        )


def first_alike(features: QueryFeatures | ProductFeatures, rows: Rows, most: int | None = None) -> Int64:
    """Return for each of some rows the first with the same features, the first ``most`` tokens counting."""
    used, place_R = np.unique(rows, return_inverse=True)
    tokens, *others = (part for part in vars(features).values() if part is not None)
    read = ((tokens[row][:most], *(part[row] for part in others)) for row in used.tolist())
    keys = (hash(tuple(part.tobytes() for part in parts)) for parts in read)
    first: dict[int, int] = {}
    return np.fromiter(map(first.setdefault, keys, used.tolist()), np.int64, len(used))[place_R]


def _joined(bags: Mapping[str, Ragged | None], rows: Rows) -> Arrays:
    made: Arrays = {}
    for name, of in bags.items():
        if of is not None:
            made[name], made[f"{name}_offsets"] = of.joined(rows)
    return made


def readable(text: str) -> str:
    """Clean a text, and truncate it to the maximum that is read."""
    text = clean_text(text)[:MOST_CHARACTERS].rstrip(" ")
    if len(text) > MOST_OF_A_WORD:
        text = " ".join([word[:MOST_OF_A_WORD] for word in text.split(" ")])
    return text


def _cleaned(columns: Mapping[str, Texts]) -> dict[str, list[str]]:
    """Clean all texts of some products; a column that is missing counts as empty."""
    rows = len(next(iter(columns.values())))
    cleaned = {name: _clean(columns.get(name) or [None] * rows) for name in schema.TEXT_COLUMNS}
    for name in MAY_BE_MISSING:
        cleaned[name] = ["" if says_missing(text) else text for text in cleaned[name]]
    return cleaned


def _clean(texts: Texts) -> list[str]:
    return [readable(text) if text else "" for text in texts]


MOST_BYTES: Final = 256 << 20
HASH_BYTES: Final = 16
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
        keys = [hash_texts((str(most), *product)) for product in texts]
        known = self.cache.get(list(dict.fromkeys(keys)))
        unknown = {key: product for key, product in zip(keys, texts, strict=True) if key not in known}
        if unknown:
            given = dict(zip(schema.TEXT_COLUMNS, zip(*unknown.values(), strict=True), strict=True))
            made = dict(zip(unknown, _split(super().products(given, most)), strict=True))
            self.cache.put(made)
            known |= made
        return _batch_of([known[key] for key in keys]) if keys else super().products(columns, most)


def hash_texts(texts: Iterable[str | None]) -> bytes:
    """Hash texts with their lengths, so that none can flow into the next."""
    contents = [(text or "").encode("utf-8", "surrogatepass") for text in texts]
    lengths = array("q", map(len, contents)).tobytes()
    return hashlib.blake2b(b"".join([lengths, *contents]), digest_size=HASH_BYTES).digest()


def _split(features: ProductFeatures) -> list[Known]:
    """Copy each product's parts of a batch, which is then free to go."""
    parts = vars(features).values()
    return [tuple(None if part is None else part[row].copy() for part in parts) for row in range(len(features.tokens))]


def _batch_of(products: Sequence[Known]) -> ProductFeatures:
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
