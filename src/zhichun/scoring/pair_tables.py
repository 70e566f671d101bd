"""Tables of pairs: read in chunks, their columns found by name, and written with what a model says of them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from zhichun import schema
from zhichun.errors import UserError, suggest
from zhichun.files import replacing
from zhichun.tasks import Prediction
from zhichun.text.document import COLUMN_OF

SHORT_NAMES: Final = {"query": schema.QUERY, "product_id": schema.PRODUCT_ID, "locale": schema.LOCALE, **COLUMN_OF}
KINDS: Final = (".parquet", ".csv", ".tsv")


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
        When a column that is needed is not there.
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
    return found


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


def read_chunks(path: Path, rows: int) -> Iterator[pa.Table]:
    """Read a table of pairs in chunks of ``rows``; all columns of a CSV are kept as they are written.

    Raises
    ------
    UserError
        For a missing, damaged or unknown file.
    """
    if not path.is_file():
        raise UserError("there is no such file.", file=path)
    if path.suffix not in KINDS:
        raise UserError("is of no known kind.", file=path, remedy=f"Give a file that ends with {', '.join(KINDS)}.")
    try:
        if path.suffix == ".parquet":
            for batch in pq.ParquetFile(path).iter_batches(rows):
                yield pa.Table.from_batches([batch])
            return
        yield from _rechunked(_open_csv(path), rows)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"cannot be read ({error}).", file=path, remedy="It may be cut off or not UTF-8.") from error


def _open_csv(path: Path) -> pa.csv.CSVStreamingReader:
    parse = pa.csv.ParseOptions(delimiter="\t" if path.suffix == ".tsv" else ",", newlines_in_values=True)
    with pa.csv.open_csv(path, parse_options=parse) as reader:
        names = reader.schema.names
    convert = pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
    return pa.csv.open_csv(path, parse_options=parse, convert_options=convert)


def _rechunked(reader: pa.csv.CSVStreamingReader, rows: int) -> Iterator[pa.Table]:
    waiting: list[pa.RecordBatch] = []
    count = 0
    for batch in reader:
        waiting.append(batch)
        count += batch.num_rows
        while count >= rows:
            table = pa.Table.from_batches(waiting)
            yield table.slice(0, rows)
            rest = table.slice(rows).combine_chunks()
            waiting, count = rest.to_batches(), rest.num_rows
    if count:
        yield pa.Table.from_batches(waiting)


def join_parts(parts: list[Path], out: Path) -> None:
    """Write Parquet parts one after another as one Parquet, CSV or TSV file."""
    first = pq.read_schema(parts[0])
    with replacing(out) as partial:
        writer: pq.ParquetWriter | pa.csv.CSVWriter
        if out.suffix == ".parquet":
            writer = pq.ParquetWriter(partial, first)
        else:
            options = pa.csv.WriteOptions(delimiter="\t" if out.suffix == ".tsv" else ",")
            writer = pa.csv.CSVWriter(partial, first, write_options=options)
        with writer:
            for part in parts:
                writer.write_table(pq.read_table(part).cast(first))
