"""Reading tables row by row in bounded memory, whatever their format, every column as text.

Rows count from 1, without the header; in JSON Lines and TREC files they are the lines. A row that cannot be read goes
onto the list of refused rows, and reading goes on. `zhichun.data.readers.sources.open_table` picks the format by the
name.
"""

import difflib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from zhichun.core.errors import UserError
from zhichun.data.readers.rejected import BROKEN_UTF8, Refusal, RejectedRows
from zhichun.text.fold import number_text

BATCH_ROWS: Final = 16_384
_BUFFER_BYTES: Final = 1 << 20


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
    suffixes : tuple of str
        The endings of such files.
    path : Path
        The file.
    names : Sequence[str]
        Its columns.
    total : int
        Its size in the unit of `Batch.done`: rows of a Parquet file, otherwise bytes.
    """

    suffixes: ClassVar[tuple[str, ...]] = ()
    path: Path
    names: Sequence[str]
    total: int

    @abstractmethod
    def batches(self, columns: Mapping[str, str], rejected: RejectedRows) -> Iterator[Batch]:
        """Read some columns.

        Parameters
        ----------
        columns
            Official name to the file's column.
        rejected
            Takes the rows that cannot be read.

        Yields
        ------
        Batch
            At most `BATCH_ROWS` rows, in the file's order.

        Raises
        ------
        UserError
            If the file is damaged.
        """


class ParquetTable(Table):
    """A Parquet file.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    UserError
        If it is not a whole Parquet file.
    """

    suffixes = (".parquet", ".pq")

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # Buffered, or whole row groups are read at once: pandas writes a million rows into each.
            self._file = pq.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER_BYTES)
        except (pa.ArrowInvalid, OSError) as error:
            raise _damaged(path) from error
        self.names, self.total = self._file.schema_arrow.names, self._file.metadata.num_rows

    def batches(self, columns: Mapping[str, str], rejected: RejectedRows) -> Iterator[Batch]:
        """Read some columns; see `Table.batches`."""
        wanted, done = list(dict.fromkeys(columns.values())), 0
        batches = self._file.iter_batches(BATCH_ROWS, columns=wanted)
        while True:
            try:
                batch = next(batches, None)
            except (pa.ArrowInvalid, OSError) as error:
                raise _damaged(self.path) from error
            if batch is None:
                return
            rows_N = np.arange(done + 1, done + 1 + batch.num_rows)
            done += batch.num_rows
            raw = {field: text_array(batch.column(name), name, self.path) for field, name in columns.items()}
            yield _decode(self.path, rows_N, raw, done, rejected)


def require_file(path: Path) -> None:
    """Refuse a file that is not there, or is empty.

    Parameters
    ----------
    path
        What should be a file.

    Raises
    ------
    UserError
        If it is not.
    """
    if path.is_dir():
        raise UserError("is a folder, not a file", remedy="Name the file in it.", file=path)
    if not path.exists():
        beside = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, beside, n=1)
        raise UserError(
            "there is no such file", remedy=f"Did you mean {near[0]!r}?" if near else "Check its path.", file=path
        )
    if not os.access(path, os.R_OK):
        raise UserError("you may not read it", remedy="Change its permissions, or name another one.", file=path)
    if path.stat().st_size == 0:
        raise UserError("the file is empty", remedy="Write it again, or name another one.", file=path)


def decode_texts(
    path: Path, rows_N: NDArray[np.int64], texts: Mapping[str, Sequence[str | None]], done: int, rejected: RejectedRows
) -> Batch:
    """Make a batch of texts in which bytes that are no UTF-8 were read as lone surrogates.

    Parameters
    ----------
    path
        Where they come from.
    rows_N
        ``(N,)``, the number of each row.
    texts
        Official name to N values.
    done
        How much of the file has been read.
    rejected
        Takes the rows with broken texts.

    Returns
    -------
    Batch
        The other rows.
    """
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


def is_encodable(text: str) -> bool:
    """Say whether a text is free of lone surrogates, as which bytes that are no UTF-8 are read.

    Parameters
    ----------
    text
        A text.

    Returns
    -------
    bool
        Whether it can be written as UTF-8.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _decode(path: Path, rows_N: NDArray[np.int64], raw: dict[str, Any], done: int, rejected: RejectedRows) -> Batch:
    """Take the arrays as they are where all is well, and look at each row only where it is not."""
    try:
        return Batch(rows_N, {field: _valid_text(array) for field, array in raw.items()}, done)
    except pa.ArrowInvalid:
        texts = {
            field: [
                None if value is None else value.decode("utf-8", "surrogateescape")
                for value in array.cast(pa.large_binary()).to_pylist()
            ]
            for field, array in raw.items()
        }
        return decode_texts(path, rows_N, texts, done, rejected)


def _valid_text(array: Any) -> Any:
    array.validate(full=True)  # Parquet files do not promise that their strings are UTF-8.
    return array.cast(pa.large_string())


def text_array(array: Any, name: str, path: Path) -> Any:
    """Give a string or binary array for a column of any type that can stand for text.

    Parameters
    ----------
    array
        A ``pyarrow`` array.
    name, path
        Its column and file, for the message.

    Returns
    -------
    pyarrow.Array
        Numbers as `number_text` writes them, the items of lists on lines of their own.

    Raises
    ------
    UserError
        If it holds what is no text.
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


def _damaged(path: Path) -> UserError:
    return UserError(
        "is not a whole Parquet file: it was cut short, damaged, or is another format",
        remedy="Copy or write it again, or give it the ending of its format.",
        file=path,
    )
