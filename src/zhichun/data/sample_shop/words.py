"""The words of the sample shop, read from ``words.json``: product types, facets, colours, brands and sentences.

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
from importlib import resources
from typing import Any, Final

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
    department = DEPARTMENTS[kind // TYPES_PER_DEPARTMENT]
    wanted = department["accessory" if mains_of(kind) else "main"].get(facet)
    start = 0
    for name, values in TEXTS["facets"][facet].items():
        if name == wanted:
            return range(start, start + len(values))
        start += len(values)
    return range(0)
