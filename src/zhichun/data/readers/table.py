"""Tables of any format row by row in bounded memory, every column as text; Parquet also with large dictionaries.

Rows count from 1, without the header; in JSON Lines and TREC files they are the lines. A row that cannot be read is
added to the list of refused rows, and reading continues: rows read = rows returned + rows refused. The format is found
by `zhichun.data.readers.sources.open_table`.
"""

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from zhichun.core.arrays import Int64
from zhichun.core.errors import UserError
from zhichun.core.schema import LOCALE, PRODUCT_ID
from zhichun.data.readers.rejected import BROKEN_UTF8, FirstRefusal, Refusal, Refusals
from zhichun.data.readers.text_file import TextFile, require_bounded, require_file
from zhichun.text.fold import fold_locales, fold_name, number_text, trim_ids

BATCH_ROWS: Final = 16_384
# A row that is longer is refused, so that what is held stays bounded.
MOST_OF_A_ROW: Final = 64 << 20
_BUFFER: Final = 1 << 20
# A batch of Parquet holds no more than about so many bytes.
_MOST_OF_A_BATCH: Final = 64 << 20
# Texts are of one type, whatever wrote them, also where a file has none; of views little can be asked.
_PLAIN: Final = {
    **dict.fromkeys((pa.string_view(), pa.large_string(), pa.null()), pa.string()),
    **dict.fromkeys((pa.binary_view(), pa.large_binary()), pa.binary()),
}
_LISTS: Final = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list, pa.types.is_list_view)
# What stands for bytes that are not UTF-8.
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


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

    rows_N: Int64
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

    def rows(self, columns: Mapping[str, str], locale: str = "") -> Iterator[tuple[int, dict[str, str | None]]]:
        """Read some columns row by row, with trimmed ids and folded locales; the first row that is bad is an error.

        Parameters
        ----------
        columns
            As for `batches`.
        locale
            Of rows without one.

        Yields
        ------
        tuple
            The number of the row in the file, and its texts by the names of ``columns``, and the locale.
        """
        for batch in self.batches(columns, FirstRefusal(self.path)):
            read = {**batch.columns, LOCALE: fold_locales(batch.columns.get(LOCALE), locale, len(batch.rows_N))}
            if PRODUCT_ID in read:
                read[PRODUCT_ID] = trim_ids(read[PRODUCT_ID])
            texts = zip(*(column.to_pylist() for column in read.values()), strict=True)
            for row, values in zip(batch.rows_N.tolist(), texts, strict=True):
                yield row, dict(zip(read, values, strict=True))

    def require_unique_names(self) -> None:
        """Refuse repeated column names; columns without a name are ignored."""
        for folded, count in Counter(filter(None, map(fold_name, self.names))).items():
            if count > 1:
                alike = ", ".join(repr(name) for name in self.names if fold_name(name) == folded)
                remedy = "Rename or remove one of them."
                raise UserError(f"has {count} columns of one name: {alike}", file=self.path, remedy=remedy)


class TextTable(Table):
    """A table in a text file."""

    def __init__(self, file: TextFile) -> None:
        self.file, self.path, self.total, self.notes = file, file.path, file.size, file.notes


def text_batches(
    path: Path, rows_N: Int64, raw: Mapping[str, Any], done: int, rejected: Refusals, rows: int = BATCH_ROWS
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
    path: Path, rows_N: Int64, texts: Mapping[str, Sequence[str | None]], done: int, rejected: Refusals
) -> Batch:
    """Build a batch of texts; rows with lone surrogates, which were not UTF-8, are refused."""
    try:
        return Batch(rows_N, {field: pa.array(values, pa.large_string()) for field, values in texts.items()}, done)
    except UnicodeEncodeError:
        pass
    whole_N = np.ones(len(rows_N), np.bool_)
    for index, row in enumerate(rows_N.tolist()):
        record = {field: values[index] for field, values in texts.items()}
        broken = [field for field, value in record.items() if value and _SURROGATE.search(value)]
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
    array = _decoded(array)
    kind = array.type
    if pa.types.is_floating(kind):
        return pa.array([number_text(value) for value in array.to_pylist()], pa.large_string())
    if any(is_list(kind) for is_list in _LISTS):
        items = text_array(pc.list_flatten(array), name, path).cast(pa.large_binary())
        ends = np.cumsum(pc.fill_null(pc.list_value_length(array), 0))
        lists = pa.LargeListArray.from_arrays([0, *ends], pc.fill_null(items, b""), mask=array.is_null())
        return pc.binary_join(lists, pa.scalar(b"\n", pa.large_binary()))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return array
    try:
        return array.cast(pa.large_binary() if pa.types.is_binary(kind) else pa.large_string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        remedy = "Store it as strings."
        raise UserError(f"the column {name!r} holds {kind}, which is no text", file=path, remedy=remedy) from error


def _valid_text(array: Any) -> Any:
    array.validate(full=True)  # Parquet files do not promise that their strings are UTF-8.
    return array.cast(pa.large_string())


def _surrogates(array: Any) -> list[str | None]:
    values = array.cast(pa.large_binary()).to_pylist()
    return [None if value is None else value.decode("utf-8", "surrogateescape") for value in values]


class ParquetTable(Table):
    """A Parquet file.

    Raises
    ------
    UserError
        If it is not a complete Parquet file.
    """

    def __init__(self, path: Path) -> None:
        require_file(path)
        self.path, self.notes, self._size = path, [], path.stat().st_size
        with self._naming_damage():
            self._file = self._open()
        self.schema: pa.Schema = pa.schema([(each.name, _decoded_type(each.type)) for each in self._file.schema_arrow])
        self.names, self.total = self.schema.names, self._file.metadata.num_rows
        self.require_unique_names()

    def batches(self, columns: Mapping[str, str], rejected: Refusals, rows: int = BATCH_ROWS) -> Iterator[Batch]:
        """Read some columns; see `Table.batches`."""
        done = 0
        for batch in self.record_batches(list(dict.fromkeys(columns.values())), rows):
            rows_N = np.arange(done + 1, done + 1 + batch.num_rows)
            done += batch.num_rows
            raw = {field: text_array(batch.column(name), name, self.path) for field, name in columns.items()}
            yield from text_batches(self.path, rows_N, raw, done, rejected)

    def record_batches(self, names: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Read some columns with their types, in batches of at most this many rows."""
        became = 0
        with self._naming_damage():
            for group in range(self._file.num_row_groups):
                step = min(rows, self._rows_at_once(group, names))
                for read in self._file.iter_batches(step, row_groups=[group], columns=names):
                    batch = pa.RecordBatch.from_arrays(list(map(_decoded, read.columns)), names=read.schema.names)
                    became += batch.nbytes
                    require_bounded(self.path, self._size, became)
                    yield batch

    def _open(self, **options: Any) -> pq.ParquetFile:
        # Buffered, or whole row groups are read at once: pandas writes a million rows into each.
        return pq.ParquetFile(self.path, pre_buffer=False, buffer_size=_BUFFER, **options)

    @cached_property
    def _with_dictionaries(self) -> pq.ParquetFile:
        texts = [
            each.name for each in self.schema if pa.types.is_string(each.type) or pa.types.is_large_string(each.type)
        ]
        return self._open(metadata=self._file.metadata, read_dictionary=texts)

    def _rows_at_once(self, group: int, names: Sequence[str]) -> int:
        """Return how many rows of a group may be decoded at once, by its metadata and dictionaries."""
        metadata = self._file.metadata.row_group(group)
        columns = [metadata.column(place) for place in range(metadata.num_columns)]
        columns = [column for column in columns if column.path_in_schema.split(".")[0] in names]
        rows, unpacked = metadata.num_rows, sum(column.total_uncompressed_size for column in columns)
        require_bounded(self.path, self._size, unpacked)
        step = min(BATCH_ROWS, _MOST_OF_A_BATCH * rows // max(1, unpacked))
        for column in columns:
            # A text of the dictionary may stand in every row.
            if column.has_dictionary_page and column.total_uncompressed_size * min(rows, step) > _MOST_OF_A_BATCH:
                step = min(step, _MOST_OF_A_BATCH // self._longest(group, column))
        return max(1, step)

    def _longest(self, group: int, column: Any) -> int:
        """Return the bytes of the longest value of a dictionary."""
        name = column.path_in_schema
        if column.physical_type not in ("BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY"):
            return 16
        if name not in self.names:  # in lists and records nobody can look at it
            return int(column.total_uncompressed_size)
        first = next(self._with_dictionaries.iter_batches(1, row_groups=[group], columns=[name])).column(0)
        values = first.dictionary if pa.types.is_dictionary(first.type) else first
        return max(1, pc.max(pc.binary_length(values.cast(pa.large_binary()))).as_py() or 1)

    @contextmanager
    def _naming_damage(self) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError, EOFError) as error:
            problem = "is not a complete Parquet file: it was cut short, damaged, or is another format"
            remedy = "Copy or write it again, or give it the ending of its format."
            raise UserError(problem, file=self.path, remedy=remedy) from error


def _decoded(array: Any) -> Any:
    array = array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
    return array.cast(_decoded_type(array.type))


def _decoded_type(kind: pa.DataType) -> pa.DataType:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return _PLAIN.get(kind, kind)
