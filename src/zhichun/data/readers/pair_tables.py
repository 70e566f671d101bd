"""Reads whole tables in chunks, with all their columns, and writes them with predictions."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from zhichun.core.errors import UserError
from zhichun.core.files import new_file
from zhichun.core.tasks import Prediction
from zhichun.data.readers.rejected import FirstRefusal
from zhichun.data.readers.sources import open_table
from zhichun.data.readers.table import BATCH_ROWS, ParquetTable, Table, text_array, text_batches
from zhichun.text.fold import fold_name

KINDS: Final = (".parquet", ".csv", ".tsv")


def kind_of(path: Path) -> str:
    """Return the kind of an output table by its file ending: one of `KINDS`.

    Raises
    ------
    UserError
        For any other.
    """
    kind = path.suffix.lower()
    if kind not in KINDS:
        raise UserError("is of no known kind.", file=path, remedy=f"Name a file that ends with {', '.join(KINDS)}.")
    return kind


def read_chunks(
    source: Path | Table, rows: int, most_bytes: int | None = None, *, known: Sequence[str] = ()
) -> Iterator[pa.Table]:
    """Read all columns of a table in chunks: of Parquet with their types, of others as text.

    A table without rows is one chunk without rows.

    Parameters
    ----------
    source
        The table.
    rows
        Rows of a chunk at most.
    most_bytes
        A chunk ends with the row that reaches this many bytes; ``None`` is unbounded. The same file is always
        split at the same rows.
    known
        Names for columns that differ from them only in case, spaces, underscores and hyphens.

    Raises
    ------
    UserError
        For a missing, damaged or unknown file, and for the first row that cannot be read.
    """
    table = open_table(source) if isinstance(source, Path) else source
    if len(set(table.names)) < len(table.names):
        raise UserError("has several columns without a name", remedy="Name or remove them.", file=table.path)
    pieces: Iterable[pa.Table]
    if isinstance(table, ParquetTable):
        schema = table.schema
        pieces = (pa.Table.from_batches([each]) for each in table.record_batches(table.names, min(rows, BATCH_ROWS)))
    else:
        batches = table.batches({name: name for name in table.names}, FirstRefusal(table.path), min(rows, BATCH_ROWS))
        schema = pa.schema([(name, pa.string()) for name in table.names])
        pieces = (pa.table(batch.columns).cast(schema) for batch in batches)
    names = {fold_name(name): name for name in known}
    renamed = [names.get(fold_name(name), name) for name in table.names]
    return (chunk.rename_columns(renamed) for chunk in _cut(pieces, schema.empty_table(), rows, most_bytes))


def texts(table: pa.Table, name: str, file: Path, before: int) -> list[str | None]:
    """Return a column as texts.

    Parameters
    ----------
    table, name
        The column.
    file, before
        The file that the table is a chunk of, and the rows before the chunk.

    Raises
    ------
    UserError
        When it is not text, or not UTF-8.
    """
    array = text_array(table.column(name).combine_chunks(), name, file)
    rows_N = np.arange(before + 1, before + 1 + len(array))
    batches = text_batches(file, rows_N, {name: array}, 0, FirstRefusal(file))
    return [text for batch in batches for text in batch.columns[name].to_pylist()]


def append_columns(table: pa.Table, prediction: Prediction, prefix: str = "", file: Path | None = None) -> pa.Table:
    """Append probabilities, label and gain to a table's columns.

    Raises
    ------
    UserError
        When the table, read from ``file``, has a column of that name.
    """
    for name, values in prediction.columns().items():
        if prefix + name in table.column_names:
            raise UserError(
                f"has a column {prefix + name!r} already.", file=file, remedy="Choose other names with --prefix."
            )
        table = table.append_column(prefix + name, pa.array(values, pa.string() if name == "label" else None))
    return table


def require_writable(table: pa.Table, out: Path) -> None:
    """Refuse columns that the output format cannot hold, before scoring.

    Raises
    ------
    UserError
        When a CSV is wanted and a column holds lists or records.
    """
    if kind_of(out) != ".parquet":
        with _naming_type(out):
            pa.csv.write_csv(table.slice(0, 0), pa.BufferOutputStream())


def join_parts(parts: list[Path], out: Path) -> None:
    """Write Parquet parts one after another as one Parquet, CSV or TSV file."""
    first = pq.read_schema(parts[0])
    write_tables((pq.read_table(part).cast(first) for part in parts), first, out)


def write_tables(tables: Iterable[pa.Table], columns: pa.Schema, out: Path) -> None:
    """Write tables one after another as one Parquet, CSV or TSV file; also in TSV, texts are quoted."""
    kind = kind_of(out)
    with new_file(out) as partial:
        writer: pq.ParquetWriter | pa.csv.CSVWriter
        if kind == ".parquet":
            writer = pq.ParquetWriter(partial, columns)
        else:
            options = pa.csv.WriteOptions(delimiter="\t" if kind == ".tsv" else ",")
            writer = pa.csv.CSVWriter(partial, columns, write_options=options)
        with writer, _naming_type(out):
            for table in tables:
                writer.write_table(table)


def _cut(pieces: Iterable[pa.Table], nothing: pa.Table, most_rows: int, most_bytes: int | None) -> Iterator[pa.Table]:
    """Merge or split chunks up to a bound of rows or bytes; no rows at all are one chunk, ``nothing``."""
    held: list[pa.Table] = []
    rows = size = 0
    is_empty = True
    for piece in pieces:
        ends, start = np.cumsum(_bytes_of_rows(piece)), 0
        is_empty = is_empty and not piece.num_rows
        while start < piece.num_rows:
            before = ends[start - 1] if start else 0
            stop = min(piece.num_rows, start + most_rows - rows)
            if most_bytes is not None:
                stop = min(stop, int(np.searchsorted(ends, most_bytes - size + before)) + 1)
            held.append(piece.slice(start, stop - start))
            rows, size, start = rows + stop - start, size + int(ends[stop - 1] - before), stop
            if rows == most_rows or (most_bytes is not None and size >= most_bytes):
                yield pa.concat_tables(held).combine_chunks()
                held, rows, size = [], 0, 0
    if held or is_empty:
        yield pa.concat_tables(held or [nothing]).combine_chunks()


def _bytes_of_rows(table: pa.Table) -> Any:
    """Return the bytes of each row: those of its texts, and of other values their mean."""
    sizes = np.zeros(table.num_rows, np.int64)
    for column in table.columns:
        is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
        sizes += (
            pc.fill_null(pc.binary_length(column), 0).to_numpy()
            if is_text
            else -(-column.nbytes // max(1, table.num_rows))
        )
    return sizes


@contextmanager
def _naming_type(out: Path) -> Iterator[None]:
    try:
        yield
    except pa.ArrowInvalid as error:
        raise UserError(
            f"cannot be written ({error}).", file=out, remedy="Name a file that ends with .parquet."
        ) from error
