"""Tables of any format row by row in bounded memory, every column as text.

Rows count from 1, without the header; in JSON Lines and TREC files they are the lines. A row that cannot be read is
added to the list of refused rows, and reading continues: rows read = rows returned + rows refused. The format is found
by `zhichun.data.readers.sources.open_table`.
"""

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from zhichun.core.errors import UserError
from zhichun.data.readers.rejected import BROKEN_UTF8, Refusal, Refusals
from zhichun.data.readers.text_file import TextFile
from zhichun.text.fold import fold_name, number_text

BATCH_ROWS: Final = 16_384
# A row that is longer is refused, so that what is held stays bounded.
MOST_OF_A_ROW: Final = 64 << 20
_WHOLE: Final = re.compile(r"(-?\d+)\.0+")


@dataclass(frozen=True, eq=False)
class Batch:
    """Some rows that could be read.

    Attributes
    ----------
    rows_N
        ``(N,)`` int64, the number of each row in the file.
    columns
        Official name to a ``large_string`` array of N values.
    done
        How much of `Table.total` has been read so far.
    """

    rows_N: NDArray[np.int64]
    columns: dict[str, Any]
    done: int


class Table(ABC):
    """A file of rows.

    Attributes
    ----------
    path : Path
        The file.
    names : Sequence[str]
        Its columns.
    total : int
        Its size in the unit of `Batch.done`: rows of a Parquet file, otherwise bytes.
    notes : list of str
        Notes for the user on how it was read.
    """

    path: Path
    names: Sequence[str]
    total: int
    notes: list[str]

    @abstractmethod
    def batches(self, columns: Mapping[str, str], rejected: Refusals, rows: int = BATCH_ROWS) -> Iterator[Batch]:
        """Read some columns.

        Parameters
        ----------
        columns
            Official name to the file's column.
        rejected
            Collects the rows that cannot be read.
        rows
            Rows of a batch at most.

        Yields
        ------
        Batch
            Rows in the file's order.

        Raises
        ------
        UserError
            If the file is damaged.
        """

    def require_unique_names(self) -> None:
        """Refuse repeated column names; columns without a name are ignored."""
        counts = Counter(filter(None, map(fold_name, self.names)))
        for folded, count in counts.items():
            if count > 1:
                alike = ", ".join(repr(name) for name in self.names if fold_name(name) == folded)
                raise UserError(
                    f"has {count} columns of one name: {alike}", remedy="Rename or remove one of them.", file=self.path
                )


class TextTable(Table):
    """A table in a text file."""

    def __init__(self, file: TextFile) -> None:
        self.file, self.path, self.total, self.notes = file, file.path, file.size, file.notes


def text_batches(
    path: Path, rows_N: NDArray[np.int64], raw: Mapping[str, Any], done: int, rejected: Refusals, rows: int = BATCH_ROWS
) -> Iterator[Batch]:
    """Yield rows of strings or bytes as batches of texts of similar size, without rows that are not UTF-8."""
    step = -(-len(rows_N) // -(-len(rows_N) // rows)) if len(rows_N) else 1
    for start in range(0, len(rows_N), step):
        part = {field: array.slice(start, step) for field, array in raw.items()}
        numbers_N = rows_N[start : start + step]
        try:
            yield Batch(numbers_N, {field: _valid_text(array) for field, array in part.items()}, done)
        except pa.ArrowInvalid:
            texts = {field: _surrogates(array) for field, array in part.items()}
            yield decode_texts(path, numbers_N, texts, done, rejected)


def decode_texts(
    path: Path, rows_N: NDArray[np.int64], texts: Mapping[str, Sequence[str | None]], done: int, rejected: Refusals
) -> Batch:
    """Build a batch of texts; rows with lone surrogates, which were not UTF-8, are refused."""
    try:
        return Batch(rows_N, {field: pa.array(values, pa.large_string()) for field, values in texts.items()}, done)
    except UnicodeEncodeError:
        pass
    whole_N = np.ones(len(rows_N), np.bool_)
    for index, row in enumerate(rows_N.tolist()):
        record = {field: values[index] for field, values in texts.items()}
        broken = [field for field, value in record.items() if value is not None and not is_encodable(value)]
        if broken:
            whole_N[index] = False
            rejected.add(Refusal(path.name, row, BROKEN_UTF8, f"in {', '.join(broken)}"), record)
    kept = np.flatnonzero(whole_N).tolist()
    columns = {field: pa.array([values[index] for index in kept], pa.large_string()) for field, values in texts.items()}
    return Batch(rows_N[kept], columns, done)


def text_array(array: Any, name: str, path: Path) -> Any:
    """Return a string or binary array for a column of any type that can stand for text.

    Integers are unchanged, other numbers as in `number_text`, items of lists one per line.
    """
    kind = array.type
    if pa.types.is_dictionary(kind):
        return text_array(array.dictionary_decode(), name, path)
    if pa.types.is_floating(kind):
        return pa.array([number_text(value) for value in array.to_pylist()], pa.large_string())
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pc.binary_join(array.cast(pa.list_(pa.string())), "\n")
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return array
    try:
        return array.cast(pa.large_binary() if pa.types.is_binary(kind) else pa.large_string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(
            f"the column {name!r} holds {kind}, which is no text", remedy="Store it as strings.", file=path
        ) from error


def json_number(text: str) -> str:
    """Write a number of a JSON file unchanged, but 3.0 as ``3``: digits beyond a float's are kept."""
    whole = _WHOLE.fullmatch(text)
    return whole[1] if whole else text


def is_encodable(text: str) -> bool:
    """Return whether a text has no lone surrogates, which stand for bytes that are not UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _valid_text(array: Any) -> Any:
    array.validate(full=True)  # Parquet files do not promise that their strings are UTF-8.
    return array.cast(pa.large_string())


def _surrogates(array: Any) -> list[str | None]:
    values = array.cast(pa.large_binary()).to_pylist()
    return [None if value is None else value.decode("utf-8", "surrogateescape") for value in values]
