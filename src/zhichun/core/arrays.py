"""Rows of different lengths in flat arrays, Parquet files, and Arrow files that are memory-mapped rather than read.

Legend: ``N`` values of all rows together, ``R`` rows.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from zhichun.core.errors import readable
from zhichun.core.files import new_file

# The kinds of arrays that have a name; `zhichun.core.tasks.Floats` are those of a model.
Bools = npt.NDArray[np.bool_]
Doubles = npt.NDArray[np.float64]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Ragged:
    """Rows of int32, kept as chunks of one flat array with offsets each.

    Parameters
    ----------
    chunks
        Pairs of ``values_N`` (int32) and ``offsets_R1`` (int64, one more than rows, from 0).
    """

    chunks: tuple[tuple[Int32, Int64], ...]

    @classmethod
    def from_flat(cls, values_N: Int32, offsets_R1: Int64) -> "Ragged":
        """Take one flat array with its offsets, without a copy."""
        return cls(((values_N, offsets_R1),))

    @classmethod
    def from_rows(cls, rows: Sequence[Sequence[int] | Int32]) -> "Ragged":
        """Flatten a list of rows."""
        values_N = np.concatenate([np.zeros(0, np.int32), *(np.asarray(row, np.int32) for row in rows)])
        offsets_R1 = np.concatenate([np.zeros(1, np.int64), np.cumsum([len(row) for row in rows], dtype=np.int64)])
        return cls.from_flat(values_N, offsets_R1)

    @classmethod
    def from_arrow(cls, columns: Sequence[pa.ListArray]) -> "Ragged":
        """View Arrow list columns (the batches of a memory-mapped file) as rows, without a copy."""
        return cls(tuple(_views(column) for column in columns))

    def to_arrow(self) -> pa.ListArray:
        """Copy all rows into one Arrow list column."""
        values_N = np.concatenate([values for values, _ in self.chunks] or [np.zeros(0, np.int32)])
        offsets_R1 = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.lengths)])
        return pa.ListArray.from_arrays(pa.array(offsets_R1.astype(np.int32)), pa.array(values_N, pa.int32()))

    @cached_property
    def _starts(self) -> Int64:
        return np.cumsum(np.asarray([0, *(len(offsets) - 1 for _, offsets in self.chunks)], np.int64))

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, row: int) -> Int32:
        """Return one row as a view."""
        chunk = int(np.searchsorted(self._starts, row, side="right")) - 1 if len(self.chunks) > 1 else 0
        values, offsets = self.chunks[chunk]
        local = row - int(self._starts[chunk])
        return values[offsets[local] : offsets[local + 1]]

    def joined(self, rows: npt.NDArray[np.integer[Any]]) -> tuple[Int64, Int64]:
        """Concatenate some rows; gives their values, and where each begins and the last one ends."""
        parts = [self[row] for row in rows.tolist()]
        offsets = np.cumsum([0, *map(len, parts)], dtype=np.int64)
        return np.concatenate([np.zeros(0, np.int32), *parts]).astype(np.int64), offsets

    def without(self, values: Sequence[int]) -> "Ragged":
        """Leave some values out of every row."""
        return Ragged(tuple(_left_out(chunk, offsets, values) for chunk, offsets in self.chunks))

    @cached_property
    def lengths(self) -> Int64:
        """Length of every row, ``[R]``."""
        parts = [np.diff(offsets) for _, offsets in self.chunks]
        return np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, np.int64)


def _left_out(values_N: Int32, offsets_R1: Int64, values: Sequence[int]) -> tuple[Int32, Int64]:
    kept_N = np.isin(values_N, values, invert=True)
    if kept_N.all():
        return values_N, offsets_R1
    before_N1 = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept_N)])
    return values_N[kept_N], before_N1[offsets_R1]


def _views(column: pa.ListArray) -> tuple[Int32, Int64]:
    offsets = column.offsets.to_numpy()
    values = column.values.to_numpy(zero_copy_only=True)
    return values[offsets[0] : offsets[-1]], (offsets - offsets[0]).astype(np.int64)


def write_batches(path: Path, batches: Iterable[dict[str, pa.Array]]) -> None:
    """Write batches of columns as one Arrow file, uncompressed, so that it can be mapped."""
    writer: pa.RecordBatchFileWriter | None = None
    with pa.OSFile(str(path), "wb") as sink:
        for columns in batches:
            batch = pa.RecordBatch.from_pydict(columns)
            writer = writer or pa.ipc.new_file(sink, batch.schema)
            writer.write_batch(batch)
        if writer is not None:
            writer.close()


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write a Parquet file, which is whole or not there."""
    with new_file(path) as partial:
        pq.write_table(table, partial, compression="zstd")


def map_batches(path: Path) -> list[pa.RecordBatch]:
    """Map the batches that `write_batches` wrote, without reading them.

    Raises
    ------
    UserError
        When the file is missing or damaged.
    """
    with readable(path, f"Delete {path.parent}; it is made again from the dataset."):
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        return [reader.get_batch(i) for i in range(reader.num_record_batches)]
