"""Parquet files in batches of bounded memory, also with large dictionaries."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from zhichun.core.errors import UserError
from zhichun.data.readers.rejected import Refusals
from zhichun.data.readers.table import BATCH_ROWS, Batch, Table, text_array, text_batches
from zhichun.data.readers.text_file import require_bounded, require_file

_BUFFER: Final = 1 << 20
# A batch holds no more than about so many bytes.
_MOST_OF_A_BATCH: Final = 64 << 20


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
        self.schema: pa.Schema = self._file.schema_arrow
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
            raise UserError(
                "is not a complete Parquet file: it was cut short, damaged, or is another format",
                remedy="Copy or write it again, or give it the ending of its format.",
                file=self.path,
            ) from error


def _decoded(array: Any) -> Any:
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
