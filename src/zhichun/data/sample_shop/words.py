"""The words of the sample shop, read from ``words.json``: product types, facets, colours, brands and sentences.

A department holds four types, in this order: two main products that can stand in for each other, and two accessories
that can stand in for each other and go with either main product. All relations of the shop follow from that order (see
`zhichun.data.sample_shop.judged_pairs.true_labels`), so a type's number says everything: ``number // 4`` is its
department, ``number // 2`` its family. Neighbouring departments are alike, which makes the harder of the irrelevant
candidates. Of the values of a facet, the first is the most common.
"""

import json
from importlib import resources
from typing import Any, Final, NamedTuple

TYPES_PER_DEPARTMENT: Final = 4
TYPES_PER_FAMILY: Final = 2
FACETS: Final = ("material", "feature", "size", "audience")
# Two ways to say an attribute in short texts, the others in long ones.
WAYS: Final = 2
# Six descriptions in ten have no markup.
MARKUP_SHARES: Final = (0.60, 0.14, 0.12, 0.08, 0.06)
# No divisor in common with the number of brands: counting in such strides meets each once, and scatters them.
_STRIDE: Final = 2_969


class Wording(NamedTuple):
    """One thing as written in each locale."""

    us: str
    es: str
    jp: str


class ProductType(NamedTuple):
    """Names of a type in each locale, the usual one first; gender and number of the Spanish ones, such as ``fp``."""

    us: list[str]
    es: list[str]
    jp: list[str]
    gender: str


class Color(NamedTuple):
    """A colour as shops write it, and as Japanese customers say it."""

    us: str
    es: str
    jp: str
    jp_spoken: str


def _make_up_brands(first: list[list[str]], middle: list[list[str]], last: list[list[str]]) -> list[Wording]:
    """Put names together from syllables; one that belongs to somebody does so by chance."""
    total = len(first) * len(middle) * len(last)
    names = []
    for step in range(total):
        place, a = divmod(step * _STRIDE % total, len(first))
        c, b = divmod(place, len(middle))
        latin, kana = ("".join(part[script] for part in (first[a], middle[b], last[c])) for script in (0, 1))
        # In Japan every other brand writes itself in katakana.
        names.append(Wording(latin, latin, kana if step % 2 else latin))
    return names


TEXTS: Final[dict[str, Any]] = json.loads(resources.files(__package__).joinpath("words.json").read_text("utf-8"))
DEPARTMENTS: Final = TEXTS["departments"]
TYPES: Final = [ProductType(**kind) for department in DEPARTMENTS for kind in department["types"]]
COLORS: Final = [Color(*color) for color in TEXTS["colors"]]
BRANDS: Final = _make_up_brands(**TEXTS["brands"])
# All values of a facet, list after list; products and queries hold a value as its place here.
WORDS: Final = {
    facet: [Wording(*value) for values in TEXTS["facets"][facet].values() for value in values] for facet in FACETS
}


def facet_list(kind: int, facet: str) -> str | None:
    """Name the list of values that a type, an index of `TYPES`, varies in; None where it does not have the facet."""
    is_main = kind % TYPES_PER_DEPARTMENT < TYPES_PER_FAMILY
    name: str | None = DEPARTMENTS[kind // TYPES_PER_DEPARTMENT]["main" if is_main else "accessory"].get(facet)
    return name


def value_range(facet: str, name: str) -> tuple[int, int]:
    """Find a list's first place in `WORDS`, and its length."""
    lists = TEXTS["facets"][facet]
    names = list(lists)
    return sum(len(lists[before]) for before in names[: names.index(name)]), len(lists[name])


def remarks(locale: str, length: str) -> list[str]:
    """List what can be said of anything; long ones so that neighbours share neither their beginning nor their end."""
    if length == "short":
        said: list[str] = TEXTS["remarks"][locale]
        return said
    beginnings, ends = TEXTS["beginnings"][locale], TEXTS["ends"][locale]
    space = "" if locale == "jp" else " "
    return [
        f"{beginnings[place % len(beginnings)]}{space}{ends[(place + place // len(beginnings)) % len(ends)]}"
        for place in range(len(beginnings) * len(ends))
    ]
