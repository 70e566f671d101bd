"""The products of the sample shop as small integer arrays: what each one is, and which ones are of a type."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from zhichun.core.schema import LOCALES
from zhichun.data.sample_shop.words import BRANDS, COLORS, DEPARTMENTS, FACETS, SHARES, TYPES_PER_DEPARTMENT, values_of

# The columns of an attribute table; what can be asked for besides the type are the last six.
TYPE: Final = 0
BRAND: Final = 1
COLOR: Final = 2
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
        How many of `zhichun.data.sample_shop.words.TYPES` are in use; always whole departments.
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
    by_type: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]
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


def apportion(total: int, weights: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Split a number into whole parts as near to given weights as can be (largest remainder)."""
    exact = total * np.asarray(weights, dtype=np.float64) / np.sum(weights)
    parts: npt.NDArray[np.int64] = np.floor(exact).astype(np.int64)
    parts[np.argsort(parts - exact, kind="stable")[: total - int(parts.sum())]] += 1
    return parts


def deal(total: int, weights: npt.ArrayLike, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Draw that many choices, each exactly as often as its weight says."""
    counts = apportion(total, weights)
    dealt: npt.NDArray[np.int64] = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    return dealt


def draw_skewed(rng: np.random.Generator, choices: int, count: int) -> npt.NDArray[np.int64]:
    """Draw from ``0 … choices - 1``, the k-th of them in proportion to ``1 / k`` (Zipf)."""
    reached = np.cumsum(1 / np.arange(1, choices + 1))
    places: npt.NDArray[np.int64] = np.searchsorted(reached, rng.random(count) * reached[-1], side="right")
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
                drawn = values.start + draw_skewed(rng, len(values), len(rows))
                attributes[rows, ATTRIBUTES.index(facet)] = drawn
    return attributes
