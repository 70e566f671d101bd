"""Tables of pairs: read in chunks, their columns found by name, and written with what a model says of them."""

import csv
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from zhichun.core import schema
from zhichun.core.errors import UserError, suggest
from zhichun.core.files import new_file
from zhichun.core.tasks import Prediction
from zhichun.data.readers.table import is_encodable, require_file, text_array
from zhichun.text.document import COLUMN_OF

SHORT_NAMES: Final = {"query": schema.QUERY, "product_id": schema.PRODUCT_ID, "locale": schema.LOCALE, **COLUMN_OF}
KINDS: Final = (".parquet", ".csv", ".tsv")
_LARGEST_FIELD: Final = 1 << 30
_BUFFER_BYTES: Final = 1 << 20
_ROWS_AT_ONCE: Final = 250

T = TypeVar("T")


def kind_of(path: Path) -> str:
    """Tell the kind of a table by the end of its name: one of `KINDS`.

    Raises
    ------
    UserError
        For any other.
    """
    kind = path.suffix.lower()
    if kind not in KINDS:
        raise UserError("is of no known kind.", file=path, remedy=f"Name a file that ends with {', '.join(KINDS)}.")
    return kind


def find_columns(names: list[str], given: Mapping[str, str], file: Path, *, catalogue: bool) -> dict[str, str]:
    """Find which column of a file holds what.

    Parameters
    ----------
    names
        Columns of the file.
    given
        Own names, by short name (``query``, ``title``, ``locale`` …) or by the official one.
    file
        For messages.
    catalogue
        Whether products are looked up by id; their texts are wanted otherwise.

    Returns
    -------
    dict
        Column of the file by official name.

    Raises
    ------
    UserError
        When a column that is needed is not there, or is there twice.
    """
    found: dict[str, str] = {}
    for short, official in SHORT_NAMES.items():
        for name in (official, short):
            if name in names:
                found.setdefault(official, name)
    for key, name in given.items():
        official = SHORT_NAMES.get(key, key)
        if official not in SHORT_NAMES.values():
            raise UserError(f"--columns knows no {key!r}.", remedy=suggest(key, SHORT_NAMES))
        if name not in names:
            raise UserError(f"has no column {name!r}.", file=file, remedy=f"It has: {', '.join(names)}.")
        found[official] = name
    needed = (schema.QUERY, schema.PRODUCT_ID if catalogue else schema.TITLE)
    for official in needed:
        if official not in found:
            raise UserError(
                f"has no column {official!r}.",
                file=file,
                remedy=f"It has: {', '.join(names)}. Name the right one with --columns"
                + ("." if catalogue else ", or give the catalogue with --products."),
            )
    for name in found.values():
        if names.count(name) > 1:
            raise UserError(f"has {names.count(name)} columns {name!r}.", file=file, remedy="Rename one of them.")
    return found


def texts(table: pa.Table, name: str, file: Path, before: int) -> list[str | None]:
    """Take a column as texts.

    Parameters
    ----------
    table, name
        The column.
    file, before
        The file that the table is a chunk of, and the rows before the chunk.

    Raises
    ------
    UserError
        When it holds something else, or bytes that are not UTF-8.
    """
    array = text_array(table.column(name).combine_chunks(), name, file)
    try:
        array.validate(full=True)  # Parquet files do not promise that their strings are UTF-8
        values: list[str | None] = array.cast(pa.large_string()).to_pylist()
    except pa.ArrowInvalid:
        for row, value in enumerate(array.cast(pa.large_binary()).to_pylist(), start=before + 1):
            if not is_encodable((value or b"").decode("utf-8", "surrogateescape")):
                raise _not_utf8(file, row) from None
        raise
    return values


def append_columns(table: pa.Table, prediction: Prediction, prefix: str = "", file: Path | None = None) -> pa.Table:
    """Put probabilities, label and gain beside a table's own columns.

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
        table = table.append_column(prefix + name, pa.array(values))
    return table


def read_chunks(path: Path, rows: int, most_bytes: int | None = None) -> Iterator[pa.Table]:
    """Read a table of pairs in chunks; all columns of a CSV are kept as they are written.

    Parameters
    ----------
    path
        The table.
    rows
        Rows of a chunk at most.
    most_bytes
        A chunk ends with the row, of a Parquet file the few hundred rows, with which it comes to so many bytes
        (characters, of a CSV); ``None`` sets no bound. The same file is always cut in the same places.

    Raises
    ------
    UserError
        For a missing, damaged or unknown file, and for a row that is not whole or not UTF-8.
    """
    kind = kind_of(path)
    require_file(path)
    if kind != ".parquet":
        yield from _csv_chunks(path, rows, most_bytes, _separator(kind))
        return
    step = rows if most_bytes is None else min(rows, _ROWS_AT_ONCE)
    try:
        # Buffered, or whole row groups are read at once.
        batches = pq.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER_BYTES).iter_batches(step)
        for chunk in _groups(((batch, batch.num_rows, batch.nbytes) for batch in batches), rows, most_bytes):
            yield pa.Table.from_batches(chunk).combine_chunks()
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(
            f"cannot be read as Parquet ({error}).", file=path, remedy="It may be cut off; get or make it again."
        ) from error


def _groups(pieces: Iterable[tuple[T, int, int]], most_rows: int, most_bytes: int | None) -> Iterator[list[T]]:
    """Put pieces, each with its rows and bytes, together up to a bound of either."""
    group: list[T] = []
    rows = held = 0
    for piece, more, size in pieces:
        if group and (rows + more > most_rows or (most_bytes is not None and held >= most_bytes)):
            yield group
            group, rows, held = [], 0, 0
        group.append(piece)
        rows, held = rows + more, held + size
    if group:
        yield group


def _csv_chunks(path: Path, rows: int, most_bytes: int | None, separator: str) -> Iterator[pa.Table]:
    before = 0
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file, _large_fields():
        records = _records(path, csv.reader(file, delimiter=separator, strict=True))
        names = next(records, [])
        if not is_encodable("".join(names)):
            raise UserError("the header is not UTF-8.", file=path, remedy="Save the file as UTF-8.")
        sized = ((record, 1, sum(map(len, record))) for record in records)
        for chunk in _groups(sized, rows, most_bytes):
            try:
                columns = [pa.array(values, pa.string()) for values in zip(*chunk, strict=True)]
            except UnicodeEncodeError:
                place = next(place for place, record in enumerate(chunk) if not is_encodable("".join(record)))
                raise _not_utf8(path, before + place + 1) from None
            yield pa.Table.from_arrays(columns, names=names)
            before += len(chunk)


def _records(path: Path, reader: Iterator[list[str]]) -> Iterator[list[str]]:
    """Give the header and the rows, each of them as wide as the header."""
    remedy = "Check its quotes and separators."
    row, width = 0, None
    while True:
        try:
            record = next(reader, None)
        except csv.Error as error:
            raise UserError(f"is not whole ({error}).", file=path, row=row or None, remedy=remedy) from error
        if record is None:
            return
        if not record:  # a blank line
            continue
        if len(record) != (width := width or len(record)):
            raise UserError(f"{len(record)} values for {width} columns.", file=path, row=row, remedy=remedy)
        yield record
        row += 1


@contextmanager
def _large_fields() -> Iterator[None]:
    """Let the csv module read texts of any length, which it would otherwise refuse beyond 128 kB."""
    limit = csv.field_size_limit(_LARGEST_FIELD)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _not_utf8(file: Path, row: int) -> UserError:
    return UserError("is not UTF-8.", file=file, row=row, remedy="Save the file as UTF-8.")


def _separator(kind: str) -> str:
    return "\t" if kind == ".tsv" else ","


def join_parts(parts: list[Path], out: Path) -> None:
    """Write Parquet parts one after another as one Parquet, CSV or TSV file."""
    kind, first = kind_of(out), pq.read_schema(parts[0])
    with new_file(out) as partial:
        writer: pq.ParquetWriter | pa.csv.CSVWriter
        if kind == ".parquet":
            writer = pq.ParquetWriter(partial, first)
        else:
            writer = pa.csv.CSVWriter(partial, first, write_options=pa.csv.WriteOptions(delimiter=_separator(kind)))
        with writer, _naming_type(out):
            for part in parts:
                writer.write_table(pq.read_table(part).cast(first))


def require_writable(table: pa.Table, out: Path) -> None:
    """Refuse columns that the kind of file asked for cannot hold, before hours are spent on them.

    Raises
    ------
    UserError
        When a CSV is wanted and a column holds lists or records.
    """
    if kind_of(out) != ".parquet":
        with _naming_type(out):
            pa.csv.write_csv(table.slice(0, 0), pa.BufferOutputStream())


@contextmanager
def _naming_type(out: Path) -> Iterator[None]:
    try:
        yield
    except pa.ArrowInvalid as error:
        raise UserError(
            f"cannot be written ({error}).", file=out, remedy="Name a file that ends with .parquet."
        ) from error
