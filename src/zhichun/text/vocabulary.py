"""Brands and colors: free text to the row of an embedding table.

The paper's tables hold what was seen at least twice, in lower case and without punctuation; everything else shares
index 0 (docs/method.md). Legend: ``V`` entries, ``B`` texts.
"""

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from zhichun.text.blanks import blank_code_points
from zhichun.text.counted import read_counted, write_counted

COLUMN = "value"


def normalise(text: str | None) -> str:
    """Write a brand or a color in the one way that the vocabulary knows.

    Punctuation and symbols become spaces, the rest is brought to NFKC and lower case, runs of spaces become one, and
    outer spaces go. Symbols go before NFKC, which would otherwise spell them out: ``"Nike™"`` as ``niketm``.

    Returns
    -------
    str
        Empty for ``None`` and for a text without a letter or a digit. Normalising again changes nothing.
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
    """The values that have an index of their own; index 0 is for all others and for none at all.

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
    def build(cls, values: Iterable[str | None] | pa.ChunkedArray, min_count: int = 2) -> "Vocabulary":
        """Count values and keep the frequent ones.

        Parameters
        ----------
        values
            One for every product. Memory grows with the number of distinct values, not with the number of values.
        min_count
            An entry must be seen so often, all its spellings together; 2 as in the paper, since what is seen once
            cannot be learnt.
        """
        if isinstance(values, pa.ChunkedArray):
            values = (value for chunk in values.chunks for value in chunk.to_pylist())
        counts: Counter[str] = Counter()
        for spelling, count in Counter(values).items():
            counts[normalise(spelling)] += count
        counts.pop("", None)
        kept = sorted((-count, value) for value, count in counts.items() if count >= min_count)
        return cls(tuple(value for _, value in kept), tuple(-count for count, _ in kept))

    def __len__(self) -> int:
        """Rows of the embedding table: the entries and index 0."""
        return len(self.values) + 1

    @cached_property
    def _index_of(self) -> dict[str, int]:
        return {value: index for index, value in enumerate(self.values, start=1)}

    def index(self, texts: Sequence[str | None]) -> npt.NDArray[np.int32]:
        """Look texts up as they stand in the catalogue.

        Returns
        -------
        NDArray[int32]
            ``[B]``; 0 for what is unknown, empty or ``None``.
        """
        index_of = {text: self._index_of.get(normalise(text), 0) for text in set(texts)}
        return np.fromiter((index_of[text] for text in texts), np.int32, len(texts))

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that decides which index a text gets."""
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
