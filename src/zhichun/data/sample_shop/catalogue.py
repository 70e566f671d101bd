"""The products of the sample shop as small integer arrays: what each one is, and which ones are of a type.

Its words come from ``words.json``: product types, facets, colours, brands and sentences.

A department holds four types, in this order: two main products that can stand in for each other, and two accessories
that can stand in for each other and go with either main product. All relations of the shop follow from that order (see
`zhichun.data.sample_shop.judged_pairs.true_labels`), so a type's number says everything: ``number // 4`` is its
department, ``number // 2`` its family. Neighbouring departments are alike, which makes the harder of the irrelevant
candidates. Of the values of a facet, the first is the most common.

The shares are there too. Those of the labels, of E, S, C and I, add up to 67, 20.5, 3 and 9.5 % over the harder
queries, which make the small version, and the others; the usual share of mistakes makes about ESCI's 65, 22, 3 and 10 %
of them.
Queries ask for none, one, two or three attributes besides the type. A mistaken judge says more often a label next to
the true one. Fields are as often empty as in the official dataset; a title tells an attribute more often where the
field that should tell it is empty. Queries have their parts in three orders, with these cumulated shares.
"""

import itertools
import json
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from zhichun.core.arrays import Int32, Int64
from zhichun.core.schema import LOCALES

Wording = dict[str, str]

TYPES_PER_DEPARTMENT: Final = 4
TYPES_PER_FAMILY: Final = 2
FACETS: Final = ("material", "feature", "size", "audience")
# Colours are also there as Japanese customers say them.
SPOKEN: Final = "jp_spoken"
_WORDED: Final = (*LOCALES, SPOKEN)
# No divisor in common with the number of brands: counting in such strides meets each once, and scatters them.
_BRAND_STRIDE: Final = 2_969


def _make_up_brands(**syllables: list[list[str]]) -> list[Wording]:
    """Put names together from syllables; one that belongs to somebody does so by chance."""
    names = list(itertools.product(syllables["last"], syllables["middle"], syllables["first"]))
    brands = []
    for step in range(len(names)):
        scattered = reversed(names[step * _BRAND_STRIDE % len(names)])
        latin, kana = ("".join(parts) for parts in zip(*scattered, strict=True))
        # In Japan every other brand writes itself in katakana.
        brands.append({"us": latin, "es": latin, "jp": kana if step % 2 else latin})
    return brands


def _worded(texts: list[str]) -> Wording:
    return dict(zip(_WORDED, texts, strict=False))


TEXTS: Final[dict[str, Any]] = json.loads(resources.files(__package__).joinpath("words.json").read_text("utf-8"))
SHARES: Final[dict[str, Any]] = TEXTS["shares"]
DEPARTMENTS: Final = TEXTS["departments"]
# The names of a type by locale, the usual one first; and gender and number of the Spanish ones, such as ``fp``.
TYPES: Final[list[dict[str, Any]]] = [kind for department in DEPARTMENTS for kind in department["types"]]
COLORS: Final = [_worded(color) for color in TEXTS["colors"]]
BRANDS: Final = _make_up_brands(**TEXTS["brands"])
# All values of a facet, list after list; products and queries hold a value as its place here.
WORDS: Final = {
    facet: [_worded(value) for values in TEXTS["facets"][facet].values() for value in values] for facet in FACETS
}


def mains_of(kind: int) -> list[dict[str, Any]]:
    """Return the main products that an accessory, an index of `TYPES`, goes with; a main product goes with none."""
    first = kind // TYPES_PER_DEPARTMENT * TYPES_PER_DEPARTMENT
    return TYPES[first : first + TYPES_PER_FAMILY] if kind - first >= TYPES_PER_FAMILY else []


def values_of(kind: int, facet: str) -> range:
    """Find the values that a type varies in: places in `WORDS`, none without the facet."""
    wanted = DEPARTMENTS[kind // TYPES_PER_DEPARTMENT]["accessory" if mains_of(kind) else "main"].get(facet)
    start = 0
    for name, values in TEXTS["facets"][facet].items():
        if name == wanted:
            return range(start, start + len(values))
        start += len(values)
    return range(0)


# The columns of an attribute table; what can be asked for besides the type are the last six.
TYPE, BRAND, COLOR = 0, 1, 2
ATTRIBUTES: Final = ("type", "brand", "color", *FACETS)
ABSENT: Final = -1


Attributes = npt.NDArray[np.int16]

_ID_LETTERS: Final = np.frombuffer(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", dtype=np.uint8)
ID_COUNT: Final = 36**8
_ID_PLACES: Final = 36 ** np.arange(7, -1, -1)
# Neither even nor a multiple of 3: counting in such strides modulo 36^8 meets no id twice.
_ID_STRIDE: Final = 1_234_567_891


@dataclass(frozen=True)
class Catalogue:
    """All products, row by row.

    Attributes
    ----------
    locales
        Shape ``(products,)``: places in :data:`zhichun.core.schema.LOCALES`.
    attributes
        Shape ``(products, 7)``, columns as in `ATTRIBUTES`.
    types
        How many of `zhichun.data.sample_shop.catalogue.TYPES` are in use; always whole departments.
    by_type
        Shape ``(products,)``: the rows sorted by locale and type.
    starts
        Shape ``(3 * types + 1,)``: where each type of each locale begins in ``by_type``.
    first_id
        The number of row 0, which differs from shop to shop.
    """

    locales: npt.NDArray[np.int8]
    attributes: Attributes
    types: int
    by_type: Int32
    starts: Int64
    first_id: int

    def section(self, locale: int, kind: int) -> slice:
        """Find one type of one locale in ``by_type``."""
        place = locale * self.types + kind
        return slice(int(self.starts[place]), int(self.starts[place + 1]))

    def product_ids(self, rows: npt.NDArray[np.integer]) -> pa.Array:
        """Name products as the official dataset does: ``B0`` and eight digits or capitals, no two alike."""
        numbers = (self.first_id + rows.astype(np.int64) * _ID_STRIDE) % ID_COUNT
        letters = np.empty((len(rows), 10), dtype=np.uint8)
        letters[:, :2] = np.frombuffer(b"B0", dtype=np.uint8)
        letters[:, 2:] = _ID_LETTERS[numbers[:, None] // _ID_PLACES % 36]
        return pa.array(letters.view("S10").ravel()).cast(pa.large_binary()).cast(pa.large_string())


def apportion(total: int, weights: npt.ArrayLike) -> Int64:
    """Split a number into whole parts as near to given weights as can be (largest remainder)."""
    exact = total * np.asarray(weights, dtype=np.float64) / np.sum(weights)
    parts: Int64 = np.floor(exact).astype(np.int64)
    parts[np.argsort(parts - exact, kind="stable")[: total - int(parts.sum())]] += 1
    return parts


def deal(total: int, weights: npt.ArrayLike, rng: np.random.Generator) -> Int64:
    """Draw that many choices, each exactly as often as its weight says."""
    counts = apportion(total, weights)
    dealt: Int64 = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    return dealt


def draw_skewed(rng: np.random.Generator, choices: int, count: int) -> Int64:
    """Draw from ``0 … choices - 1``, the k-th of them in proportion to ``1 / k`` (Zipf)."""
    reached = np.cumsum(1 / np.arange(1, choices + 1))
    places: Int64 = np.searchsorted(reached, rng.random(count) * reached[-1], side="right")
    return places.clip(max=choices - 1)


def make_catalogue(products: int, rng: np.random.Generator) -> Catalogue:
    """Draw all products.

    The words in use grow with the shop: a small one shows each often enough to be learnt from, a large one has
    thousands of brands.
    """
    departments = int(np.clip(products // 600, 2, len(DEPARTMENTS)))
    types = departments * TYPES_PER_DEPARTMENT
    locales = deal(products, SHARES["locales_of_products"], rng).astype(np.int8)
    kinds = np.empty(products, dtype=np.int16)
    for locale in range(len(LOCALES)):
        rows = np.flatnonzero(locales == locale)
        kinds[rows] = deal(len(rows), np.tile(SHARES["types_of_a_department"], departments), rng)
    place = locales.astype(np.int32) * types + kinds
    by_type = np.argsort(place, kind="stable").astype(np.int32)
    starts = np.searchsorted(place[by_type], np.arange(len(LOCALES) * types + 1))
    attributes = _draw_attributes(kinds, rng)
    return Catalogue(locales, attributes, types, by_type, starts, first_id=int(rng.integers(ID_COUNT)))


def _draw_attributes(kinds: npt.NDArray[np.int16], rng: np.random.Generator) -> Attributes:
    products = len(kinds)
    # Each department has brands of its own.
    brands = min(max(3, round(4 * (products / 2000) ** 0.6)), len(BRANDS) // len(DEPARTMENTS))
    colors = int(np.clip(5 + products // 2000, 5, len(COLORS)))
    attributes = np.full((products, len(ATTRIBUTES)), ABSENT, dtype=np.int16, order="F")
    attributes[:, TYPE] = kinds
    attributes[:, BRAND] = kinds // TYPES_PER_DEPARTMENT * brands + draw_skewed(rng, brands, products)
    attributes[:, COLOR] = draw_skewed(rng, colors, products)
    for kind in range(int(kinds.max()) + 1):
        rows = np.flatnonzero(kinds == kind)
        for facet in FACETS:
            if values := values_of(kind, facet):
                attributes[rows, ATTRIBUTES.index(facet)] = values.start + draw_skewed(rng, len(values), len(rows))
    return attributes
