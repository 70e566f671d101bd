"""What the second stage knows of a candidate: its probabilities, those of its list, and what its texts say.

Each feature is a function of the query, the candidate and the set of its list's other members. The list's size, the
order of its rows, ids and ``small_version`` are none: they say how a list was collected, and on the real extract the
size alone predicts labels. Candidates that are read alike count once, so that the list is a set of products.

Legend: ``P`` pairs, ``U`` distinct candidates, ``F`` features, ``N`` candidates of one list, ``M`` values of each,
``Q`` terms of a query, ``T`` terms of a document, ``K`` folds, ``X`` values of all of them, ``J`` kinds of features.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from zhichun.core import schema
from zhichun.core.arrays import Bools, Doubles, Int64
from zhichun.score.similarity import PairVectors, Product, Similarity
from zhichun.text.features import readable
from zhichun.text.fold import MAY_BE_MISSING, fold_query, says_missing
from zhichun.text.pairs import PairTexts, country_index
from zhichun.text.trigrams import trigram_keys
from zhichun.text.vocabulary import normalise, terms, terms_of_all

Measure = tuple[float, str]

# BM25 as the first stage of serving has it: Lucene's, with the usual constants.
K1, B = 1.5, 0.75
# What the texts of a pair give, in order, by group.
TEXT_FEATURES: Final[dict[str, tuple[str, ...]]] = {
    "words": ("bm25", "bm25_share", "coverage", "title_coverage", "weighted_coverage", "trigram_overlap"),
    "brand and color": ("brand_named", "brand_of_another", "color_named", "color_of_another"),
    "numbers": ("numbers_agree", "numbers_contradict"),
    "lengths and locale": ("query_words", "title_words", "document_words", "locale"),
}
OF_LIST: Final = ("min", "median", "max", "gap", "share")
# What `Similarity.of_lists` gives, in order, by group: all but the last are read as a share of the list too.
SIMILARITY_FEATURES: Final[dict[str, tuple[str, ...]]] = {
    "similarity of the title": ("similarity", "similarity_share"),
    "similarity of all texts": ("texts_similarity", "texts_similarity_share"),
    "least similar word": ("least_word", "least_word_share"),
    "most similar product": ("similarity_to_best",),
}
_SIZES: Final = {"small": "s", "medium": "m", "large": "l", "xxl": "2xl", "xxxl": "3xl"}
# A letter alone is a size where the word stands before it: "Levi's" has none.
_SIZE: Final = re.compile(r"\bsize\s+(\d+(?:\.\d+)?)\b|\b(small|medium|large|x+[sl]|[2-6]xl)\b|\bsize\s+([sml])\b")
_NUMBER: Final = re.compile(r"(?<![\w.])(\d+(?:[.,]\d+)?)[\s-]*(?:([a-z]+)|([\"”″]))?")
# Units that are written in several ways; any other word after a number is none.
_UNITS: Final = {
    written: unit
    for unit, ways in {
        "inch": "in inch inches", "foot": "ft foot feet", "cm": "cm", "mm": "mm",
        "metre": "m meter meters metre metres",
        "gb": "gb", "tb": "tb", "mb": "mb",
        "ounce": "oz ounce ounces", "pound": "lb lbs pound pounds",
        "gram": "g gram grams gr", "kilogram": "kg kilo kilos", "litre": "l liter liters litre litres litros",
        "millilitre": "ml", "watt": "w watt watts", "volt": "v volt volts", "mah": "mah", "amp": "amp amps",
        "piece": "pack packs pk pcs piece pieces count ct piezas unidades", "year": "year years yr años",
    }.items()
    for written in ways.split()
}  # fmt: skip


def measures(text: str) -> frozenset[Measure]:
    """Find the numbers of a text with their units, and sizes of clothes.

    Examples
    --------
    >>> sorted(measures('10.5" tablet, 64GB'))
    [(10.5, 'inch'), (64.0, 'gb')]
    >>> sorted(measures("shirt size L"))
    [(0.0, 'size l')]
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    found: set[Measure] = set()
    for number, size, letter in _SIZE.findall(folded):
        found.add((float(number), "size") if number else (0.0, f"size {_SIZES.get(size, size or letter)}"))
    for number, word, mark in _NUMBER.findall(folded):
        found.add((float(number.replace(",", ".")), "inch" if mark else _UNITS.get(word, "")))
    return frozenset(found)


def compared(wanted: frozenset[Measure], there: frozenset[Measure]) -> tuple[float, float]:
    """Return the shares of a query's measures that a product has, and that it has otherwise; NaN where it names none.

    A number contradicts another of its unit, and one without a unit another without; sizes of clothes each other.
    """
    if not wanted:
        return np.nan, np.nan
    values, units = {value for value, _ in there}, {unit.split(" ")[0] for _, unit in there}
    missing = [
        unit
        for value, unit in wanted
        if (value, unit) not in there and (unit.startswith("size") or value not in values)
    ]
    return 1 - len(missing) / len(wanted), sum(unit.split(" ")[0] in units for unit in missing) / len(wanted)


Bag = tuple[Int64, Int64]  # hashed terms or trigrams of a text, and how often each is in it


def bag_of(keys: npt.NDArray[np.generic]) -> Bag:
    """Count keys."""
    return np.unique(keys.view(np.int64), return_counts=True)


def counted_in(bags: Sequence[Bag], wanted_Q: Int64) -> Int64:
    """Return how often each of some keys is in each bag, ``[N, Q]``; all bags at once, to call numpy less often."""
    found_NQ = np.zeros((len(bags), len(wanted_Q)), np.int64)
    if not len(wanted_Q):
        return found_NQ
    keys_T, counts_T = (np.concatenate(parts) for parts in zip(*bags, strict=True))
    owner_T = np.repeat(np.arange(len(bags)), [len(keys) for keys, _ in bags])
    order_Q = np.argsort(wanted_Q)
    place_T = order_Q[np.searchsorted(wanted_Q, keys_T, sorter=order_Q).clip(max=len(wanted_Q) - 1)]
    hit_T = wanted_Q[place_T] == keys_T
    found_NQ[owner_T[hit_T], place_T[hit_T]] = counts_T[hit_T]
    return found_NQ


class Side:
    """What is read of a query or a product, once: a query is a title alone."""

    def __init__(self, title: str, rest: Sequence[str] = (), brand: str = "", color: str = "") -> None:
        in_title, in_all = terms(title), terms("\n".join((title, brand, color, *rest)))
        self.terms, self.title_words, self.words = list(dict.fromkeys(in_all)), len(in_title), len(in_all)
        self.title, self.all = (bag_of(np.fromiter(map(hash, words), np.int64)) for words in (in_title, in_all))
        self.trigrams = bag_of(trigram_keys([title, brand, color])[0])
        self.measures = measures("\n".join((title, brand, color)))
        self.brand, self.color = normalise(brand), normalise(color)


# Products of usual length that a process remembers, each in some kilobytes; a query meets those that another one met.
MOST_REMEMBERED: Final = 4096  # characters
T = TypeVar("T")


def _remembering(function: Callable[[Product], T]) -> Callable[[Product], T]:
    known = lru_cache(1 << 14)(function)
    return lambda texts: (known if sum(len(text or "") for text in texts) <= MOST_REMEMBERED else function)(texts)


@_remembering
def product_read(texts: Product) -> Product:
    """Return what is read of a product's texts, in the order of `schema.TEXT_COLUMNS`; alike, products are one."""
    cleaned = zip(schema.TEXT_COLUMNS, texts, (readable(text or "") for text in texts), strict=True)
    return tuple(
        "" if name in MAY_BE_MISSING and says_missing(read) else text if read == text else read  # in memory once
        for name, text, read in cleaned
    )


@_remembering
def product_side(texts: Product) -> Side:
    """Read a product by what `product_read` gives."""
    title, description, bullets, brand, color = (text or "" for text in texts)
    side = Side(title, (bullets, description), brand, color)
    side.terms = []  # which of queries alone are read, and take most of the memory
    return side


@dataclass(frozen=True, eq=False)
class Corpus:
    """How many documents of a catalogue have each term, for BM25.

    Parameters
    ----------
    documents
        How many there are.
    mean_length
        Terms of one on average.
    counts
        Documents with each term, where there are two or more; a term that is not here counts as of one.
    """

    documents: int
    mean_length: float
    counts: Mapping[str, int]

    @classmethod
    def of(cls, batches: Iterable[Sequence[str]]) -> "Corpus":
        """Count the terms of documents, batch by batch."""
        counts: Counter[str] = Counter()
        documents = length = 0
        for texts in batches:
            for found in terms_of_all(texts):
                counts.update(set(found))
                length += len(found)
            documents += len(texts)
        known = {term: count for term, count in sorted(counts.items()) if count > 1}
        return cls(documents, length / max(1, documents), known)

    def weights(self, words: Sequence[str]) -> Doubles:
        """Return the inverse document frequency of terms, ``[Q]``."""
        found_Q = np.asarray([self.counts.get(word, 1) for word in words], np.float64)
        return np.log1p((self.documents - found_Q + 0.5) / (found_Q + 0.5))

    def words(self, query: Side, products: Sequence[Side]) -> Doubles:
        """Return the features of a list that compare words, ``[N, 6]``."""
        wanted_Q, weights_Q = np.fromiter(map(hash, query.terms), np.int64), self.weights(query.terms)
        counts_NQ = counted_in([side.all for side in products], wanted_Q)
        titled_NQ = counted_in([side.title for side in products], wanted_Q) > 0
        shared_NQ = counted_in([side.trigrams for side in products], query.trigrams[0]) > 0
        lengths_N1 = np.asarray([[side.words] for side in products]) / max(self.mean_length, 1e-9)
        bm25_N = counts_NQ / (counts_NQ + K1 * (1 - B + B * lengths_N1)) @ weights_Q
        weighted_N = titled_NQ @ weights_Q / max(float(weights_Q.sum()), 1e-9)
        share_N = bm25_N / max(float(bm25_N.max()), 1e-9)
        return np.stack(
            [bm25_N, share_N, _means(counts_NQ > 0), _means(titled_NQ), weighted_N, _means(shared_NQ)], axis=1
        )


@dataclass(frozen=True, eq=False)
class Candidates:
    """Candidates of queries, with what needs no model.

    Parameters
    ----------
    known_UF
        Features of the texts and the user's own columns.
    names
        Of these.
    lists
        Places among the U of each list's candidates.
    place_P
        Which distinct candidate each pair is.
    vectors
        Of the encoder of the similarity, where there is one.
    """

    known_UF: Doubles
    names: tuple[str, ...]
    lists: tuple[Int64, ...]
    place_P: Int64
    vectors: PairVectors | None = None

    @classmethod
    def read(
        cls, corpus: Corpus, texts: PairTexts, own: Sequence[str] = (), similarity: Similarity | None = None
    ) -> "Candidates":
        """Read P pairs; spellings of a query are one query.

        Parameters
        ----------
        corpus
            Of the catalogue.
        texts
            Of the pairs.
        own
            The columns of the products that are the user's own numbers.
        similarity
            Of query and product, where the trees read it.
        """
        queries, products, locales, lists = texts
        columns = [products.get(name) or [None] * len(queries) for name in (*schema.TEXT_COLUMNS, *own)]
        folded = {query: fold_query(query) for query in set(queries)}
        given = [None] * len(queries) if lists is None else lists
        of_list = zip([folded[query] for query in queries], locales, given, strict=True)
        cut = len(schema.TEXT_COLUMNS)
        places: dict[tuple[str, str, Hashable], dict[tuple[Product, tuple[float, ...]], int]] = {}
        spelled: dict[tuple[str, str, Hashable], str] = {}
        place_P, count = np.empty(len(queries), np.int64), 0
        for pair, (key, *fields) in enumerate(zip(of_list, *columns, strict=True)):
            spelled[key] = min(queries[pair], spelled.get(key, queries[pair]))  # in any order of the rows
            read = product_read(tuple(fields[:cut])), tuple(map(number_of, fields[cut:]))
            place_P[pair] = places.setdefault(key, {}).setdefault(read, count)
            count += place_P[pair] == count
        found = tuple(np.fromiter(there.values(), np.int64, len(there)) for there in places.values())
        groups = [*TEXT_FEATURES.values(), *((name, f"{name}_share") for name in own)]
        groups += [] if similarity is None else SIMILARITY_FEATURES.values()
        names = tuple(name for group in groups for name in group)
        known_UF = np.empty((count, len(names)))
        similar: Iterable[Doubles] = [np.empty((len(list_N), 0)) for list_N in found]
        vectors = None
        if similarity is not None and found:
            asked = [(spelled[key], [texts for texts, _ in there]) for key, there in places.items()]
            similar, in_order = similarity.of_lists(asked)
            vectors = in_order.select(np.argsort(np.concatenate(found)))
        for (key, there), list_N, similar_NS in zip(places.items(), found, similar, strict=True):
            parts = _of_list(corpus, spelled[key], key[1], list(there), len(own)), _with_shares(similar_NS)
            known_UF[list_N] = np.concatenate(parts, axis=1)
        return cls(known_UF, names, found, place_P, vectors)

    @cached_property
    def list_P(self) -> Int64:
        """Which list each pair is of."""
        of_U = np.empty(len(self.known_UF), np.int64)
        for number, list_N in enumerate(self.lists):
            of_U[list_N] = number
        return of_U[self.place_P]

    @property
    def words_P(self) -> Int64:
        """Words of each pair's texts."""
        return self.known_UF[self.place_P, self.names.index("document_words")].astype(np.int64)

    def select(self, rows: Int64) -> "Candidates":
        """Take some pairs, whose lists are then of these alone."""
        used, place_P = np.unique(self.place_P[rows], return_inverse=True)
        number_U = np.full(len(self.known_UF), -1)
        number_U[used] = np.arange(len(used))
        lists = (number_U[list_N] for list_N in self.lists)
        kept = tuple(list_N[list_N >= 0] for list_N in lists if (list_N >= 0).any())
        vectors = self.vectors and self.vectors.select(used)
        return Candidates(self.known_UF[used], self.names, kept, place_P, vectors)

    def features(self, *probabilities: npt.NDArray[np.floating]) -> Doubles:
        """Put the features of all pairs together, ``[K P, F]``, fold after fold: all folds at once, to call numpy less.

        Parameters
        ----------
        probabilities
            ``[P, M]`` for each of ``K`` folds: what its models say, one or several.
        """
        given_PX, folds = np.concatenate(probabilities, axis=1), len(probabilities)
        count, kinds, models = len(self.known_UF), 1 + len(OF_LIST), given_PX.shape[1] // folds
        values_UX = np.full((count, given_PX.shape[1]), -np.inf)
        # A candidate under two spellings has two predictions; the larger is the same in any order of the rows.
        np.maximum.at(values_UX, self.place_P, given_PX)
        read_UJX = np.empty((count, kinds, given_PX.shape[1]))
        for list_N in self.lists:
            read_UJX[list_N] = np.stack([values_UX[list_N], *beside_list(values_UX[list_N])], axis=1)
        read_KUJM = read_UJX.reshape(count, kinds, folds, models).transpose(2, 0, 1, 3)
        known_KUF = np.broadcast_to(self.known_UF, (folds, *self.known_UF.shape))
        made_KUF = np.concatenate([read_KUJM.reshape(folds, count, kinds * models), known_KUF], axis=2)
        made_PF: Doubles = made_KUF[:, self.place_P].reshape(-1, made_KUF.shape[2])
        return made_PF

    def groups(self, models: int) -> dict[str, list[str]]:
        """Name the features in their order, by group; ``models`` give four probabilities each."""
        prefixes = [""] if models == 1 else [f"model{number}_" for number in range(1, models + 1)]
        given = [f"{prefix}{name}" for prefix in prefixes for name in schema.PROBABILITIES]
        similar = SIMILARITY_FEATURES if SIMILARITY_FEATURES["most similar product"][0] in self.names else {}
        first, last = (sum(map(len, groups.values())) for groups in (TEXT_FEATURES, similar))
        own = list(self.names[first : len(self.names) - last])
        return {
            "probabilities": given,
            "list": [f"{name}_{kind}" for kind in OF_LIST for name in given],
            **{group: list(names) for group, names in TEXT_FEATURES.items()},
            **({"own columns": own} if own else {}),
            **{group: list(names) for group, names in similar.items()},
        }


def beside_list(values_NM: Doubles) -> tuple[Doubles, ...]:
    """Return the minimum, median and maximum of a list, the gap below the maximum, and the rank as a share.

    The share of the others that a candidate is above, ties counting half; 1 where there is no other, as nothing is
    above it. All are ``[N, M]``.
    """
    last = len(values_NM) - 1
    order_NM = values_NM.argsort(axis=0, kind="stable")
    sorted_NM = np.take_along_axis(values_NM, order_NM, axis=0)
    rank_N1 = np.arange(last + 1)[:, None]
    differs_NM = sorted_NM[1:] != sorted_NM[:-1]
    first_NM, final_NM = np.zeros_like(order_NM), np.full_like(order_NM, last)
    first_NM[1:] = np.maximum.accumulate(np.where(differs_NM, rank_N1[1:], 0), axis=0)
    final_NM[:-1] = np.minimum.accumulate(np.where(differs_NM, rank_N1[:-1], last)[::-1], axis=0)[::-1]
    share_NM = np.empty_like(values_NM)
    np.put_along_axis(share_NM, order_NM, (first_NM + final_NM) / (2 * last) if last else 1.0, axis=0)
    middle_M = (sorted_NM[last // 2] + sorted_NM[(last + 1) // 2]) / 2
    of_list = (np.broadcast_to(row_M, values_NM.shape) for row_M in (sorted_NM[0], middle_M, sorted_NM[-1]))
    return *of_list, sorted_NM[-1] - values_NM, share_NM


def _with_shares(similar_NS: Doubles) -> Doubles:
    """Put its share of the list beside each similarity but the last, ``[N, 2 S - 1]``; none stays none."""
    values_NS, last_NS = similar_NS[:, :-1], similar_NS[:, -1:]
    paired_NS2 = np.stack([values_NS, beside_list(values_NS)[-1]], axis=2)
    return np.concatenate([paired_NS2.reshape(len(similar_NS), -1), last_NS], axis=1)


def _of_list(
    corpus: Corpus, query: str, locale: str, products: Sequence[tuple[Product, tuple[float, ...]]], own: int
) -> Doubles:
    """Return what is known of the candidates of one list without a model, ``[N, F]``."""
    asked, sides = Side(readable(query)), [product_side(texts) for texts, _ in products]
    folded = f" {normalise(query)} "
    named_N4 = np.stack([*_named(folded, [s.brand for s in sides]), *_named(folded, [s.color for s in sides])], axis=1)
    numbers_N2 = np.asarray([compared(asked.measures, side.measures) for side in sides])
    lengths_N4 = np.asarray([[asked.words, side.title_words, side.words, country_index(locale)] for side in sides])
    numbers_NO = np.array([numbers for _, numbers in products], np.float64).reshape(len(sides), own)
    missing_NO = np.isnan(numbers_NO)
    with np.errstate(invalid="ignore"):  # in the gap between two missing numbers, which nobody reads
        share_NO = beside_list(np.where(missing_NO, -np.inf, numbers_NO))[-1] if own else numbers_NO
    own_NO2 = np.stack([numbers_NO, np.where(missing_NO, np.nan, share_NO)], axis=2)
    parts = (corpus.words(asked, sides), named_N4, numbers_N2, lengths_N4, own_NO2.reshape(len(sides), 2 * own))
    return np.concatenate(parts, axis=1)


def _named(query: str, values: Sequence[str]) -> tuple[Doubles, Doubles]:
    """Return whether a query names each product's brand or color, and whether only another's; NaN without one."""
    # Scripts without spaces name it within a run of letters.
    named_N = np.asarray([(value if not value.isascii() else f" {value} ") in query for value in values], np.float64)
    named_N[[not value for value in values]] = np.nan
    return named_N, np.where(named_N > 0, 0.0, float(np.nansum(named_N) > 0))


def number_of(text: str | None) -> float:
    """Read a number of the user's; NaN where there is none, or no number."""
    try:
        value = float(text or "nan")
    except ValueError:
        return np.nan
    return value if np.isfinite(value) else np.nan


def _means(found_NQ: Bools) -> Doubles:
    return found_NQ.mean(axis=1) if found_NQ.shape[1] else np.zeros(len(found_NQ))
