"""Vocabularies: brands and colors as rows of an embedding table, and the file format of all vocabularies.

The paper's tables of brands and colors hold values that occur at least twice, in lower case and without punctuation;
everything else shares index 0 (docs/method.md). A file is Parquet, a row per entry in the order of its ids, the first
row being id 1; id 0 has no row.

Words of any script: separators, counts, and the terms of BM25.

Punctuation, symbols, separators and control characters only separate. A run of letters, digits and marks is one word;
each Chinese or Japanese character is one, since these scripts put no spaces between words, which makes the number of
words a length in the size of tokens that needs no tokenizer.

BM25's terms are compared without case, compatibility forms (full-width letters, half-width kana) and the accents of
letters, so that *Niño* is found by *nino*. Runs of Chinese and Japanese give every pair of neighbours, and every Han
character by itself too, because one of them is often a whole word (靴, shoe). No word is stemmed and none is left out.

Legend: ``V`` entries, ``B`` texts, ``L`` characters of all.
"""

import functools
import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from zhichun.core.arrays import Bools, Int32, Int64, write_parquet
from zhichun.core.errors import UserError, readable

CODE_POINTS: Final = 0x110000
SPACE: Final = 0x20
# First letters of the Unicode general categories: punctuation, symbol, separator, other (control, format, unassigned).
CATEGORIES: Final = b"PSZC"
# Outside of these planes every code point is unassigned or for private use, so of category C; first and end.
ASSIGNED: Final = ((0, 0x40000), (0xE0000, 0xF0000))
# These two only choose how the symbol before them is drawn, so they go where it goes; an emoji would leave them behind.
PRESENTATION_SELECTORS: Final = (0xFE0E, 0xFE0F)
_BLANK: Final = 0
_LETTER: Final = 1
_ALONE: Final = 2
# Han, then all that is written without spaces: Hiragana and Katakana too. With their extensions, compatibility and
# half-width forms; first and last code points.
HAN_RANGES: Final = ((0x3005, 0x3007), (0x3400, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))
UNSPACED_RANGES: Final = (*HAN_RANGES, (0x3041, 0x30FF), (0x31F0, 0x31FF), (0xFF66, 0xFF9F))
_LINE_FEED: Final = 0x0A
# Accents, as they stand after the letter once a text is decomposed; the voicing marks of kana are not among them.
_ACCENTS: Final = re.compile("[\u0300-\u036f]")


@functools.cache
def blank_code_points() -> Bools:
    """Return whether each code point is only a separator.

    Returns
    -------
    NDArray[bool]
        ``[0x110000]``, read-only, built once per process in about 30 ms.
    """
    blank = np.ones(CODE_POINTS, np.bool_)
    for first, end in ASSIGNED:
        categories = "".join(map(unicodedata.category, map(chr, range(first, end)))).encode("ascii")
        blank[first:end] = np.isin(np.frombuffer(categories, np.uint8)[::2], list(CATEGORIES))
    blank[list(PRESENTATION_SELECTORS)] = True
    blank.flags.writeable = False
    return blank


def word_counts(texts: Sequence[str | None]) -> Int64:
    """Count the words of each text.

    Parameters
    ----------
    texts
        Texts; None has none.

    Returns
    -------
    NDArray[int64]
        ``[B]``.
    """
    written = [text or "" for text in texts]
    # The line feed after each text ends its last word.
    codes_L = np.frombuffer("".join(f"{text}\n" for text in written).encode("utf-32-le"), np.uint32)
    kind_L = _kinds()[codes_L]
    is_letter_L = kind_L == _LETTER
    starts_L = is_letter_L.copy()
    starts_L[1:] &= ~is_letter_L[:-1]
    starts_L |= kind_L == _ALONE
    borders_B1 = np.cumsum([0, *(len(text) + 1 for text in written)])
    return np.diff(np.searchsorted(np.flatnonzero(starts_L), borders_B1))


@functools.cache
def _kinds() -> npt.NDArray[np.uint8]:
    """Classify each code point: separator, part of a word, or a word by itself."""
    blank = blank_code_points()
    kinds = np.full(len(blank), _LETTER, np.uint8)
    for first, last in UNSPACED_RANGES:
        kinds[first : last + 1] = _ALONE
    kinds[blank] = _BLANK
    kinds.flags.writeable = False
    return kinds


def _characters(ranges: Sequence[tuple[int, int]]) -> str:
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)


_UNSPACED: Final = _characters(UNSPACED_RANGES)
_RUN: Final = re.compile(f"[{_UNSPACED}]+|[^ {_UNSPACED}]+")
_STARTS_UNSPACED: Final = re.compile(f"[{_UNSPACED}]")
_HAN: Final = re.compile(f"[{_characters(HAN_RANGES)}]")


def terms(text: str) -> list[str]:
    """Return the terms of one text, in its order and as often as they are in it.

    Examples
    --------
    >>> terms("Niño's RED-shoes")
    ['nino', 's', 'red', 'shoes']
    >>> terms("赤い靴")
    ['赤い', 'い靴', '赤', '靴']
    """
    return terms_of_all([text])[0]


def terms_of_all(texts: Sequence[str]) -> list[list[str]]:
    """Return the terms of every text; several thousand at once are much faster than one by one."""
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


COLUMN = "value"
COUNT = "count"
REMEDY = "Write the vocabularies again from the dataset, or copy the whole model folder again."


def normalise(text: str | None) -> str:
    """Normalise a brand or a color as in the vocabulary.

    Punctuation and symbols become spaces, the rest is brought to NFKC and lower case, runs of spaces become one, and
    outer spaces go. Symbols are removed before NFKC, which would otherwise expand them: ``"Nike™"`` as ``niketm``.
    """
    if not text:
        return ""
    lowered = unicodedata.normalize("NFKC", _fold(text)).lower()
    # Some letters are one code point in lower case only (ǰ), so lower case must be composed again.
    return _fold(unicodedata.normalize("NFKC", lowered))


def _fold(text: str) -> str:
    blank = blank_code_points()
    return " ".join("".join(" " if blank[ord(char)] else char for char in text).split())


@dataclass(frozen=True)
class Vocabulary:
    """The values with their own index; index 0 is for unknown and missing values.

    Parameters
    ----------
    values
        Normalised and distinct, by count descending and then by text; ``values[0]`` has index 1.
    counts
        How often each was seen.
    """

    values: tuple[str, ...]
    counts: tuple[int, ...]

    @classmethod
    def build(cls, values: pa.ChunkedArray, min_count: int = 2) -> "Vocabulary":
        """Count values and keep the frequent ones.

        Parameters
        ----------
        values
            Texts, one for every product.
        min_count
            Minimum count of an entry over all its spellings; 2 as in the paper, since a value that occurs once
            cannot be learnt.
        """
        counts: Counter[str] = Counter()
        for each in values.value_counts().to_pylist():
            counts[normalise(each["values"])] += each["counts"]
        counts.pop("", None)
        kept = sorted((-count, value) for value, count in counts.items() if count >= min_count)
        return cls(tuple(value for _, value in kept), tuple(-count for count, _ in kept))

    def __len__(self) -> int:
        """Rows of the embedding table: the entries and index 0."""
        return len(self.values) + 1

    @cached_property
    def _index_of(self) -> dict[str, int]:
        return {value: index for index, value in enumerate(self.values, start=1)}

    def index(self, texts: Sequence[str | None]) -> Int32:
        """Look up texts in catalogue spelling.

        Returns
        -------
        NDArray[int32]
            ``[B]``; 0 for an unknown or empty text or ``None``.
        """
        index_of = {text: self._index_of.get(normalise(text), 0) for text in set(texts)}
        return np.fromiter((index_of[text] for text in texts), np.int32, len(texts))

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that determines a text's index."""
        return hashlib.sha256("\n".join(self.values).encode("utf-8")).hexdigest()[:16]

    def save(self, path: Path) -> None:
        """Write the Parquet columns ``value`` and ``count``, in the order of the index from 1.

        Raises
        ------
        UserError
            When the file cannot be written.
        """
        write_counted(path, COLUMN, self.values, np.array(self.counts, np.int64))

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        """Read what :meth:`save` wrote.

        Raises
        ------
        UserError
            When the file is missing, damaged or not such a vocabulary.
        """
        values, counts = read_counted(path, COLUMN)
        return cls(tuple(values), tuple(counts.tolist()))


def write_counted(path: Path, column: str, values: Sequence[str], counts_V: Int64) -> None:
    """Write a vocabulary; the file appears under its name only when it is complete."""
    write_parquet(path, pa.table({column: pa.array(values, pa.string()), COUNT: pa.array(counts_V, pa.int64())}))


def read_counted(path: Path, column: str) -> tuple[list[str], Int64]:
    """Read what :func:`write_counted` wrote."""
    with readable(path, REMEDY, pa.ArrowException):
        table = pq.ParquetFile(path).read()
        table.validate(full=True)
    types = dict(zip(table.schema.names, table.schema.types, strict=True))
    if types.get(column) != pa.string() or types.get(COUNT) != pa.int64():
        problem = f"a vocabulary has the columns {column!r} (string) and {COUNT!r} (int64), not {table.schema.names}."
        raise UserError(problem, file=path, remedy=REMEDY)
    values: list[str] = table.column(column).to_pylist()
    _refuse_faulty_rows(path, values, table.column(COUNT).to_pylist())
    return values, table.column(COUNT).to_numpy()


def _refuse_faulty_rows(path: Path, values: Sequence[str | None], counts: Sequence[int | None]) -> None:
    seen: set[str] = set()
    for row, (value, count) in enumerate(zip(values, counts, strict=True), start=1):
        if not value or count is None or count < 0 or value in seen:
            fault = "comes twice" if value in seen else f"with count {count!r} is not an entry"
            raise UserError(f"{value!r} {fault}.", file=path, row=row, remedy=REMEDY)
        seen.add(value)
