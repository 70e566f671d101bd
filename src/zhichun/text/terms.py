"""What BM25 counts in a text: words where spaces part them, pairs of characters where none do.

Texts are compared without case, compatibility forms (full-width letters, half-width kana) and the accents of letters,
so that *Niño* is found by *nino*. A run of letters, digits and marks is one term. Chinese and Japanese are written
without spaces: their runs give every pair of neighbours, and every Han character by itself too, because one of them is
often a whole word (靴, shoe). No word is stemmed and none is left out, in no language.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

import numpy as np

from zhichun.text.blanks import SPACE, blank_code_points
from zhichun.text.words import HAN_RANGES, UNSPACED_RANGES

_LINE_FEED: Final = 0x0A
# Accents, as they stand after the letter once a text is decomposed; the voicing marks of kana are not among them.
_ACCENTS: Final = re.compile("[\u0300-\u036f]")


def _characters(ranges: Sequence[tuple[int, int]]) -> str:
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)


_UNSPACED: Final = _characters(UNSPACED_RANGES)
_RUN: Final = re.compile(f"[{_UNSPACED}]+|[^ {_UNSPACED}]+")
_STARTS_UNSPACED: Final = re.compile(f"[{_UNSPACED}]")
_HAN: Final = re.compile(f"[{_characters(HAN_RANGES)}]")


def terms(text: str) -> list[str]:
    """Give the terms of one text, in its order and as often as they are in it.

    Examples
    --------
    >>> terms("Niño's RED-shoes")
    ['nino', 's', 'red', 'shoes']
    >>> terms("赤い靴")
    ['赤い', 'い靴', '赤', '靴']
    """
    return terms_of_all([text])[0]


def terms_of_all(texts: Sequence[str]) -> list[list[str]]:
    """Give the terms of every text; several thousand at once cost far less than one after the other."""
    if not texts:
        return []
    joined = "\n".join([text.replace("\n", " ") for text in texts]).casefold()
    if not joined.isascii():
        joined = unicodedata.normalize("NFKC", _ACCENTS.sub("", unicodedata.normalize("NFKD", joined)))
    codes = np.frombuffer(joined.encode("utf-32-le", "replace"), np.uint32).copy()
    codes[blank_code_points()[codes] & (codes != _LINE_FEED)] = SPACE
    return [_of_line(line) for line in codes.tobytes().decode("utf-32-le").split("\n")]


def _of_line(line: str) -> list[str]:
    if line.isascii():
        return line.split()
    found: list[str] = []
    for run in _RUN.findall(line):
        if len(run) == 1 or not _STARTS_UNSPACED.match(run):
            found.append(run)
        else:
            found += [run[place : place + 2] for place in range(len(run) - 1)]
            found += _HAN.findall(run)
    return found
