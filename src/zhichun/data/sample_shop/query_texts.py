"""What customers of the sample shop type: the asked attributes in changing order, spelling and completeness."""

import itertools
from bisect import bisect_right
from collections.abc import Callable
from typing import Final

import numpy as np

from zhichun.core.schema import LOCALES
from zhichun.data.sample_shop import catalogue as shop
from zhichun.data.sample_shop.judged_pairs import JudgedPairs
from zhichun.text.fold import fold_query

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
