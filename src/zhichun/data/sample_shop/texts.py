"""Titles, bullet points, descriptions, brands and colours of the sample shop, written column by column; its queries.

Every sentence that can occur is written out once per locale; a product's text is then a matter of taking and joining,
which Arrow does without a Python loop over products.

Queries are what customers type: the asked attributes in changing order, spelling and completeness.
"""

import itertools
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from zhichun.core import schema
from zhichun.core.arrays import Bools, Int64
from zhichun.core.schema import LOCALES
from zhichun.data.sample_shop import catalogue as shop
from zhichun.data.sample_shop.judged_pairs import JudgedPairs
from zhichun.text.fold import fold_query

TextLength = Literal["short", "esci"]

# Titles have their parts in two orders per locale; what stands between them.
LAYOUTS: Final = 2
_SEPARATORS: Final = {"us": (", ", " "), "es": (", ", " "), "jp": (" ", " ")}
_LOWER: Final = frozenset({"a", "and", "cm", "con", "de", "for", "ml", "para", "sin", "with", "y"})
_MODELS: Final = tuple(f"{a}{b}{number}" for a in "ABDGKLMPRSTVXZ" for b in "CFHNQX" for number in range(10, 100, 3))
# Two ways to say an attribute in short texts, the others in long ones.
_WAYS: Final = 2
# Sentences about nothing in particular, in the bullet points and in a description.
_REMARKS_IN_BULLETS: Final = {"short": 2, "esci": 3}
_REMARKS_IN_DESCRIPTION: Final = {"short": 3, "esci": 8}
# No divisors in common with the number of remarks, 5 or 64, nor steps to a remark with the same end.
_STRIDES: Final = (1, 3, 9, 11)
_TEXT: Final = pa.large_string()


def headline(text: str) -> str:
    """Capitalise as titles do: ``pan lid with handle`` becomes ``Pan Lid with Handle``."""
    return " ".join(word if word in _LOWER else word[:1].upper() + word[1:] for word in text.split(" "))


def _join(parts: Sequence[Any], separator: str, *, nulls: Literal["skip", "emit_null"]) -> Any:
    return pc.binary_join_element_wise(*parts, pa.scalar(separator, _TEXT), null_handling=nulls)


def _take(table: Any, places: npt.NDArray[Any], shown: Bools) -> Any:
    """Take texts by place; null where a row does not show one."""
    return table.take(pa.array(np.where(shown, places, 0), mask=~shown))


def _any(table: Any, shown: Bools, rng: np.random.Generator) -> Any:
    """Draw a text for each row that shows one."""
    return _take(table, rng.integers(len(table), size=len(shown)), shown)


def _keep(texts: Any, kept: Bools) -> Any:
    return pc.if_else(pa.array(kept), texts, pa.scalar(None, _TEXT))


def _one_of(table: Any, values: npt.NDArray[np.int16], kinds: int, rng: np.random.Generator) -> Int64:
    """Choose among a value's entries in a table that holds equally many of each value, value after value."""
    each = len(table) // kinds
    return values * each + rng.integers(each, size=len(values))


def _remarks(locale: str, length: TextLength) -> list[str]:
    """List what can be said of anything; long ones so that neighbours share neither their beginning nor their end."""
    if length == "short":
        said: list[str] = shop.TEXTS["remarks"][locale]
        return said
    beginnings, ends = shop.TEXTS["beginnings"][locale], shop.TEXTS["ends"][locale]
    space = "" if locale == "jp" else " "
    return [
        f"{beginnings[place]}{space}{ends[(place + turn) % len(ends)]}"
        for turn in range(len(ends))
        for place in range(len(beginnings))
    ]


class LocaleTexts:
    """Writes the texts of one locale.

    Parameters
    ----------
    locale
        One of :data:`zhichun.core.schema.LOCALES`.
    length
        ``short`` for titles of about 60 characters, bullets of 120 and descriptions of 150; ``esci`` for about 100, 700
        and 800. Japanese texts are shorter, as they are there.
    """

    def __init__(self, locale: str, length: TextLength) -> None:
        self._locale, self._length = locale, length
        about = shop.TEXTS["about"][locale]
        ways = slice(0, _WAYS) if length == "short" else slice(_WAYS, None)
        kinds = [[headline(name) for name in kind[locale]] for kind in shop.TYPES]
        words = {facet: [word[locale] for word in shop.WORDS[facet]] for facet in shop.FACETS}
        shades = [shade.format(color[locale]) for color in shop.COLORS for shade in shop.TEXTS["shades"][locale]]
        introductions = shop.TEXTS["introductions"][locale]

        def table(texts: Iterable[str]) -> Any:
            return pa.array(list(texts), _TEXT)

        self._brands = table(brand[locale] for brand in shop.BRANDS)
        # Two names of each type: the usual one, and a synonym where there is one.
        self._types = table(names[place % len(names)] for names in kinds for place in range(2))
        self._colors = table(headline(shade) for shade in shades)
        self._words = {facet: table(map(headline, of)) for facet, of in words.items()}
        self._about = {facet: table(t.format(w) for w in of for t in about[facet][ways]) for facet, of in words.items()}
        self._introductions = table(text.format(names[0]) for names in kinds for text in introductions)
        self._remarks = table(_remarks(locale, length))
        self._occasions = table(shop.TEXTS["occasions"][locale])
        self._promises = table(shop.TEXTS["promises"][locale])
        self._models = table(_MODELS)
        self._markup = [table(markup[place] for markup in shop.TEXTS["markup"]) for place in range(4)]

    def write(self, attributes: shop.Attributes, layout: int, rng: np.random.Generator) -> dict[str, Any]:
        """Write the five text columns.

        Parameters
        ----------
        attributes
            Shape ``(n, 7)``, columns as in `zhichun.data.sample_shop.catalogue.ATTRIBUTES`.
        layout
            0 or 1: the order of the parts of a title.
        rng
            Source of all chance.

        Returns
        -------
        dict
            Column name to a ``large_string`` array of length ``n``; nulls are empty fields.
        """
        has = {field: rng.random(len(attributes)) >= share for field, share in shop.SHARES["empty_fields"].items()}
        brand = self._brands.take(pa.array(attributes[:, shop.BRAND]))
        color = self._colors.take(pa.array(_one_of(self._colors, attributes[:, shop.COLOR], len(shop.COLORS), rng)))
        return {
            schema.TITLE: self._titles(attributes, layout, brand, color, has, rng),
            schema.DESCRIPTION: self._descriptions(attributes, brand, has[schema.DESCRIPTION], rng),
            schema.BULLETS: _keep(self._bullets(attributes, rng), has[schema.BULLETS]),
            schema.BRAND: _keep(brand, has[schema.BRAND]),
            schema.COLOR: _keep(color, has[schema.COLOR]),
        }

    def _titles(
        self,
        attributes: shop.Attributes,
        layout: int,
        brand: Any,
        color: Any,
        has: dict[str, Bools],
        rng: np.random.Generator,
    ) -> Any:
        n, long = len(attributes), self._length == "esci"
        told_share = shop.SHARES["told_in_titles"]
        told = {
            field: rng.random(n) < np.where(has[field], told_share, shop.SHARES["told_in_titles_if_the_field_is_empty"])
            for field in (schema.BRAND, schema.COLOR)
        }
        ends = np.full(n, True) if long else rng.random(n) < shop.SHARES["occasions_in_short_titles"]
        synonym = rng.random(n) < shop.SHARES["synonyms_in_titles"]
        parts = {
            "brand": _keep(brand, told[schema.BRAND]),
            "color": _keep(color, told[schema.COLOR]),
            "type": self._types.take(pa.array(attributes[:, shop.TYPE] * 2 + synonym)),
            "promise": _any(self._promises, np.full(n, long), rng),
            "model": _any(self._models, np.full(n, long), rng),
            "occasion": _any(self._occasions, ends, rng),
        }
        for facet in shop.FACETS:
            values = attributes[:, shop.ATTRIBUTES.index(facet)]
            parts[facet] = _take(self._words[facet], values, (values != shop.ABSENT) & (rng.random(n) < told_share))
        first, *others = shop.TEXTS["titles"][self._locale][layout].split()
        rest = _join([parts[name] for name in others], _SEPARATORS[self._locale][layout], nulls="skip")
        return _join([parts[first], rest], " ", nulls="skip")

    def _bullets(self, attributes: shop.Attributes, rng: np.random.Generator) -> Any:
        lines = []
        for facet in shop.FACETS:
            values = attributes[:, shop.ATTRIBUTES.index(facet)]
            has_it = values != shop.ABSENT
            line = _take(self._about[facet], _one_of(self._about[facet], values, len(shop.WORDS[facet]), rng), has_it)
            if self._length == "esci":
                line = _join([line, _any(self._remarks, has_it, rng)], " ", nulls="emit_null")
            lines.append(line)
        lines += self._some_remarks(np.full(len(attributes), True), _REMARKS_IN_BULLETS[self._length], rng)
        return _join(lines, "\n", nulls="skip")

    def _descriptions(self, attributes: shop.Attributes, brand: Any, has_one: Bools, rng: np.random.Generator) -> Any:
        places = _one_of(self._introductions, attributes[:, shop.TYPE], len(shop.TYPES), rng)
        style = rng.choice(len(shop.TEXTS["markup"]), size=len(attributes), p=shop.SHARES["markup"])
        before, after_first, between, after = (_take(part, style, has_one) for part in self._markup)
        pieces = [before, brand, pa.scalar(" ", _TEXT), _take(self._introductions, places, has_one), after_first]
        for remark in self._some_remarks(has_one, _REMARKS_IN_DESCRIPTION[self._length], rng):
            pieces += [remark, between]
        return _join([*pieces[:-1], after], "", nulls="emit_null")

    def _some_remarks(self, shown: Bools, count: int, rng: np.random.Generator) -> list[Any]:
        """Draw ``count`` different remarks for each row: a start, and a stride that would visit them all."""
        total = len(self._remarks)
        start, stride = rng.integers(total, size=len(shown)), rng.choice(_STRIDES, size=len(shown))
        return [_take(self._remarks, (start + step * stride) % total, shown) for step in range(count)]


_SHARES: Final = shop.SHARES["in_queries"]
_FOR: Final = {"us": "for {}", "es": "para {}", "jp": "{}用"}
_ODD_STARTS: Final = ("!", "#1 ", "* ", '"', "+ ", "- ")
_UNACCENTED: Final = str.maketrans("áéíóú", "aeiou")

Chance = Callable[[], float]


def plural_us(name: str) -> str:
    """Put an English name in the plural, unless it is."""
    if name.endswith(("luggage", "s")) and not name.endswith("ss"):
        return name
    return name + ("es" if name.endswith(("ss", "sh", "ch", "x")) else "s")


def _plural_es(word: str) -> str:
    if word.endswith("s"):
        return word if word != "gris" else "grises"
    if word.endswith(("én", "ín", "ón")):
        return word[:-2] + word[-2:].translate(_UNACCENTED) + "es"
    return word + ("s" if word[-1] in "aeiouékt" else "es")


def plural_es(name: str, gender: str) -> str:
    """Put the first word of a Spanish name in the plural, unless it is."""
    first, space, rest = name.partition(" ")
    return name if gender.endswith("p") else f"{_plural_es(first)}{space}{rest}"


def agree(color: str, gender: str) -> str:
    """Make a Spanish colour agree with the gender and number of its noun: ``negro``, ``fp`` gives ``negras``."""
    if color in ("rosa", "naranja", "turquesa", "burdeos", "beige"):
        return color
    if color.endswith("o") and gender.startswith("f"):
        color = f"{color[:-1]}a"
    return _plural_es(color) if gender.endswith("p") else color


def mistype(text: str, chance: Chance) -> str:
    """Swap, drop or double a letter that is not the first."""
    if len(text) < 4:
        return text
    place, kind = 1 + int(chance() * (len(text) - 2)), chance()
    if kind < 0.4:
        return text[:place] + text[place + 1] + text[place] + text[place + 2 :]
    return text[:place] + text[place + 1 :] if kind < 0.75 else text[:place] + text[place] + text[place:]


def to_hiragana(text: str) -> str:
    """Write katakana as hiragana, as hurried customers do: ``カバー`` becomes ``かばー``."""
    return "".join(chr(ord(c) - 0x60) if "ァ" <= c <= "ヶ" else c for c in text)


def _main_product(kind: int, locale: str, name: str, chance: Chance) -> str:
    """Return what an accessory is for, unless its name says it."""
    mains = shop.mains_of(kind)
    if not mains or chance() >= _SHARES["for_a_main_product"]:
        return ""
    main: str = mains[int(chance() * len(mains))][locale][0]
    return "" if main[:3] in name else _FOR[locale].format(main)


def _parts(locale: str, asked: list[int], extras: int, chance: Chance) -> dict[str, str]:
    """Put each thing that is asked for into words."""
    kind = shop.TYPES[asked[shop.TYPE]]
    names = kind[locale]
    synonym = len(names) > 1 and chance() < _SHARES["synonym"]
    name = names[1 + int(chance() * (len(names) - 1))] if synonym else names[0]
    parts = {"main": _main_product(asked[shop.TYPE], locale, name, chance)}
    if locale != "jp" and chance() < _SHARES["plural"]:
        name = plural_us(name) if locale == "us" else plural_es(name, kind["gender"])
    parts["type"] = name
    if asked[shop.BRAND] != shop.ABSENT:
        parts["brand"] = shop.BRANDS[asked[shop.BRAND]][locale]
    if asked[shop.COLOR] != shop.ABSENT:
        parts["color"] = shop.COLORS[asked[shop.COLOR]][locale]
        if locale == "es" and chance() < _SHARES["agreeing_color"]:
            parts["color"] = agree(parts["color"], kind["gender"])
        elif locale == "jp" and chance() < _SHARES["spoken_color"]:
            parts["color"] = shop.COLORS[asked[shop.COLOR]][shop.SPOKEN]
    for facet in shop.FACETS:
        value = asked[shop.ATTRIBUTES.index(facet)]
        if value != shop.ABSENT:
            parts[facet] = shop.WORDS[facet][value][locale]
    if extras or chance() < _SHARES["extra"]:
        words = shop.TEXTS["query_extras"][locale]
        some = [words[int(chance() * len(words))] for _ in range(max(1, extras))]
        parts["extra"] = " ".join(dict.fromkeys(some))
    return parts


def write_query(locale: str, asked: list[int], chance: Chance, extras: int = 0) -> str:
    """Put what a query asks for into words."""
    parts = _parts(locale, asked, extras, chance)
    order = bisect_right(_SHARES["orders_reached"], chance())
    names = [name for name in shop.TEXTS["query_orders"][locale][order].split() if parts.get(name)]
    if parts.get("feature", "").startswith("with "):  # a lamp with remote, not a with remote lamp
        names.remove("feature")
        names.insert(names.index("type") + 1, "feature")
    words = [parts[name] for name in names]
    text = _japanese(names, words, chance) if locale == "jp" else _european(locale, " ".join(words), chance)
    if chance() < _SHARES["odd_start"]:
        text = _ODD_STARTS[int(chance() * len(_ODD_STARTS))] + text
    return text


def _japanese(names: list[str], words: list[str], chance: Chance) -> str:
    text, style = words[0], chance()
    for before, name, word in zip(names, names[1:], words[1:], strict=False):
        if before in ("color", "audience") and name == "type" and style < 0.5:
            text += f"の{word}"
        else:
            text += ("" if style < 0.08 else "\u3000" if style < 0.18 else " ") + word
    return to_hiragana(text) if chance() < _SHARES["typo"] else text


def _european(locale: str, text: str, chance: Chance) -> str:
    if locale == "es" and chance() < _SHARES["unaccented"]:
        text = text.translate(_UNACCENTED)
    if chance() < _SHARES["typo"]:
        text = mistype(text, chance)
    style = chance()
    if style >= _SHARES["upper_case_from"]:
        return text.upper()
    if style >= _SHARES["capitalised_from"]:
        return " ".join(word[:1].upper() + word[1:] for word in text.split(" "))
    return text.lower()


def write_queries(pairs: JudgedPairs, rng: np.random.Generator) -> list[str]:
    """Put all queries into words, all different, also without case and spaces and across locales."""
    texts: list[str] = []
    seen: set[str] = set()
    for locale, asked in zip(pairs.locales.tolist(), pairs.asked.tolist(), strict=True):
        for attempt in itertools.count():
            # Where the plain wordings are used up, words that ask for nothing make new ones.
            text = write_query(LOCALES[locale], asked, rng.random, extras=attempt // 6)
            key = fold_query(text)
            if key not in seen:
                break
        seen.add(key)
        texts.append(text)
    return texts
