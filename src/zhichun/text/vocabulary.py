"""Vocabularies: brands and colors as rows of an embedding table, and the file format of all vocabularies.

The paper's tables of brands and colors hold values that occur at least twice, in lower case and without punctuation;
everything else shares index 0 (docs/method.md). A file is Parquet, a row per entry in the order of its ids, the first
row being id 1; id 0 has no row. Legend: ``V`` entries, ``B`` texts.
"""

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from zhichun.core.errors import UserError, readable
from zhichun.core.files import new_file
from zhichun.text.words import blank_code_points

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

    def index(self, texts: Sequence[str | None]) -> npt.NDArray[np.int32]:
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


def write_counted(path: Path, column: str, values: Sequence[str], counts_V: npt.NDArray[np.int64]) -> None:
    """Write a vocabulary; the file appears under its name only when it is complete."""
    table = pa.table({column: pa.array(values, pa.string()), COUNT: pa.array(counts_V, pa.int64())})
    with new_file(path) as partial:
        pq.write_table(table, partial, compression="zstd")


def read_counted(path: Path, column: str) -> tuple[list[str], npt.NDArray[np.int64]]:
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
