"""Reads whole tables in chunks, with all their columns, and writes them with predictions; run files and qrels too."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from zhichun.core.arrays import Int64
from zhichun.core.errors import UserError, suggest
from zhichun.core.files import new_file
from zhichun.core.schema import LABELS, PRODUCT_ID, QUERY, TITLE
from zhichun.core.tasks import Prediction
from zhichun.data.readers.lines import JsonTable
from zhichun.data.readers.rejected import FirstRefusal, Refusals
from zhichun.data.readers.sources import ALIASES, find_column, no_column, open_table
from zhichun.data.readers.table import BATCH_ROWS, ParquetTable, Table, text_array, text_batches
from zhichun.text.fold import fold_name, value_text

KINDS: Final = (".parquet", ".csv", ".tsv", ".jsonl")
# TREC run files, which hold ids and scores alone.
RUNS: Final = (".run", ".trec")
ROW: Final = "\x00row"


def kind_of(path: Path, kinds: Sequence[str] = KINDS) -> str:
    """Return the kind of an output table by its file ending.

    Raises
    ------
    UserError
        For any other.
    """
    kind = path.suffix.lower()
    if kind not in kinds:
        raise UserError("is of no known kind.", file=path, remedy=f"Name a file that ends with {', '.join(kinds)}.")
    return kind


def read_chunks(path: Path, rows: int, *, known: Sequence[str] = ()) -> Iterator[pa.Table]:
    """Read all columns of a table in chunks: of Parquet with their types, of others as text; see `numbered_chunks`."""
    chunks = numbered_chunks(open_table(path), rows, None, FirstRefusal(path), known=known)
    return (chunk.drop_columns([ROW]) for chunk in chunks)


def numbered_chunks(
    table: Table, rows: int, most_bytes: int | None, rejected: Refusals, *, known: Sequence[str] = ()
) -> Iterator[pa.Table]:
    """Read all columns of a table in chunks, with the number of each row in the file as the column `ROW`.

    A table without rows is one chunk without rows.

    Parameters
    ----------
    table
        The table.
    rows
        Rows of a chunk at most.
    most_bytes
        A chunk ends with the row that reaches this many bytes; ``None`` is unbounded. The same file is always
        split at the same rows.
    rejected
        Collects the rows that cannot be read.
    known
        Names for columns that differ from them only in case, spaces, underscores and hyphens.

    Raises
    ------
    UserError
        For a damaged file.
    """
    if len(set(table.names)) < len(table.names):
        raise UserError("has several columns without a name", remedy="Name or remove them.", file=table.path)
    pieces: Iterable[pa.Table]
    if isinstance(table, ParquetTable):
        schema = table.schema
        pieces = _counted(table.record_batches(table.names, min(rows, BATCH_ROWS)))
    else:
        batches = table.batches({name: name for name in table.names}, rejected, min(rows, BATCH_ROWS))
        schema = pa.schema([(name, pa.string()) for name in table.names])
        pieces = (pa.table(each.columns).cast(schema).append_column(ROW, pa.array(each.rows_N)) for each in batches)
    names = {fold_name(name): name for name in known}
    renamed = [*(names.get(fold_name(name), name) for name in table.names), ROW]
    nothing = schema.append(pa.field(ROW, pa.int64())).empty_table()
    return (chunk.rename_columns(renamed) for chunk in _cut(pieces, nothing, rows, most_bytes))


def let_keys_differ(table: JsonTable, own: Sequence[str], read: Mapping[str, str]) -> None:
    """Let a file of JSON lack keys that others have: they are empty, and an object in one that is not read is its JSON.

    The query and the product's id or title may not be lacking, of what is ``read`` (official name to the column).
    """
    for name in [read[field] for field in (QUERY, PRODUCT_ID, TITLE) if field in read and own]:
        if name not in own:
            table.names = own
            raise no_column(repr(name), table, suggest(name, own))
    table.kept = {*table.names}.difference(read.values())


def columns_of(table: Table) -> dict[str, str]:
    """Return the columns of a table with their types."""
    if isinstance(table, ParquetTable):
        return {field.name: str(field.type) for field in table.schema}
    return dict.fromkeys(table.names, "text")


def require_alike(table: Table, columns: Mapping[str, str]) -> None:
    """Refuse a file whose rows cannot stand in one table with those of others; the order of columns may differ."""
    if other := sorted({name for name, _ in columns.items() ^ columns_of(table).items()}):
        problem = f"has other columns than the other files, or other types of them: {', '.join(other)}."
        raise UserError(problem, file=table.path, remedy="Score files of different columns one by one.")


def _counted(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    before = 0
    for batch in batches:
        rows_N = np.arange(before + 1, before + 1 + batch.num_rows)
        yield pa.Table.from_batches([batch]).append_column(ROW, pa.array(rows_N))
        before += batch.num_rows


def texts(
    table: pa.Table, name: str, file: Path, rows: int | Int64, rejected: Refusals | None = None
) -> list[str | None]:
    """Return a column as texts.

    Parameters
    ----------
    table, name
        The column.
    file, rows
        The file that the table is a chunk of, and the number of each row in it, or those before the first.
    rejected
        Collects rows that are not UTF-8, whose text is ``None`` then.

    Raises
    ------
    UserError
        When it is not text; and not UTF-8, if nothing collects that.
    """
    array = text_array(table.column(name).combine_chunks(), name, file)
    rows_N = np.arange(rows + 1, rows + 1 + len(array)) if isinstance(rows, int) else rows
    batches = list(text_batches(file, rows_N, {name: array}, 0, rejected or FirstRefusal(file)))
    found: list[str | None] = [text for batch in batches for text in batch.columns[name].to_pylist()]
    if len(found) < len(array):
        kept = dict(zip(np.concatenate([batch.rows_N for batch in batches]).tolist(), found, strict=True))
        return [kept.get(row) for row in rows_N.tolist()]
    return found


def append_columns(
    table: pa.Table, prediction: Prediction | pa.Table, prefix: str = "", file: Path | None = None
) -> pa.Table:
    """Append probabilities, label and gain to a table's columns.

    Raises
    ------
    UserError
        When the table, read from ``file``, has a column of that name.
    """
    found = prediction_table(prediction) if isinstance(prediction, Prediction) else prediction
    for name, column in zip(found.column_names, found.columns, strict=True):
        if prefix + name in table.column_names:
            remedy = "Choose other names with --prefix."
            raise UserError(f"has a column {prefix + name!r} already.", file=file, remedy=remedy)
        table = table.append_column(prefix + name, column)
    return table


def prediction_table(prediction: Prediction) -> pa.Table:
    """Return the columns of a prediction."""
    columns = prediction.columns().items()
    return pa.table({name: pa.array(of, pa.string() if name == "label" else None) for name, of in columns})


def require_writable(table: pa.Table, out: Path) -> None:
    """Refuse columns that the output format cannot hold, before scoring.

    Raises
    ------
    UserError
        When a CSV is wanted and a column holds lists or records.
    """
    kind = kind_of(out, (*KINDS, *RUNS))
    if kind in RUNS:
        _run_columns(table.column_names, out)
    elif kind in (".csv", ".tsv"):
        with _naming_type(out):
            pa.csv.write_csv(table.slice(0, 0), pa.BufferOutputStream())


def join_parts(parts: list[Path], out: Path) -> None:
    """Write Parquet parts one after another as one file of any of `KINDS`."""
    first = pq.read_schema(parts[0])
    write_tables((pq.read_table(part).cast(first) for part in parts), first, out)


def write_tables(tables: Iterable[pa.Table], columns: pa.Schema, out: Path) -> None:
    """Write tables one after another as one Parquet, CSV, TSV, JSON Lines or run file; texts of TSV are quoted."""
    kind = kind_of(out, (*KINDS, *RUNS))
    if kind in RUNS:
        names = _run_columns(columns.names, out)
        queries, products, scores = pa.concat_tables([table.select(names) for table in tables]).columns
        return write_run(out, queries.to_pylist(), products.to_pylist(), scores.to_numpy())
    with new_file(out) as partial, _naming_type(out):
        if kind == ".jsonl":
            with partial.open("w", encoding="utf-8") as file:
                for table in tables:
                    rows = pa.table([*map(_shortest, table.columns)], table.column_names).to_pylist()
                    file.writelines(f"{json.dumps(row, ensure_ascii=False, default=str)}\n" for row in rows)
            return None
        options = pa.csv.WriteOptions(delimiter="\t" if kind == ".tsv" else ",")
        is_parquet = kind == ".parquet"
        with (
            pq.ParquetWriter(partial, columns)
            if is_parquet
            else pa.csv.CSVWriter(partial, columns, write_options=options)
        ) as writer:
            for table in tables:
                writer.write_table(table)
    return None


def _run_columns(names: Sequence[str], out: Path) -> list[str]:
    """Find what a run file holds: the ids of query and product, and the last score."""
    found = [find_column("query_id", names), *filter(None, (find_column(name, names) for name in ALIASES[PRODUCT_ID]))]
    scores = [name for name in names if name.endswith(("score", "p_S", "gain"))]
    for wanted, there in (("query_id", found[0]), (PRODUCT_ID, found[1:]), ("score", scores)):
        if not there:
            remedy = "Add it to the pairs, or write a table (.csv, .jsonl)."
            raise UserError(f"needs a column {wanted!r}.", file=out, remedy=remedy)
    return [str(found[0]), str(found[1]), scores[-1]]


def _shortest(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Write float32 with the digits that it has; JSON knows no number that is not finite."""
    if not pa.types.is_floating(column.type):
        return column
    decimals = column.cast(pa.string()).cast(pa.float64())
    return pc.if_else(pc.is_finite(decimals), decimals, None)


def write_run(path: Path, query_ids: Any, product_ids: Any, scores: Any, tag: str = "zhichun") -> None:
    """Write a TREC run file, ``qid Q0 docid rank score tag``: best first; a pair without a score was not returned.

    Raises
    ------
    UserError
        For an id that the format cannot hold.
    """
    query_P, product_P, score_P = _ids(query_ids, path), _ids(product_ids, path), np.asarray(scores)
    _, first_P, place_P = np.unique(query_P, return_index=True, return_inverse=True)
    order, rank, before = np.lexsort((-score_P, first_P[place_P])), 0, ""
    with new_file(path) as partial, partial.open("w", encoding="utf-8") as file:
        for row in order[np.isfinite(score_P[order])].tolist():
            rank, before = (rank + 1 if query_P[row] == before else 1), query_P[row]
            file.write(f"{before} Q0 {product_P[row]} {rank} {score_P[row]!s} {tag}\n")


def write_qrels(path: Path, query_ids: Any, product_ids: Any, labels: Any) -> None:
    """Write TREC qrels, ``qid 0 docid grade``: E is 3, S 2, C 1 and I 0; labels are given as their places."""
    grades = (len(LABELS) - 1 - np.asarray(labels)).tolist()
    rows = zip(_ids(query_ids, path), _ids(product_ids, path), grades, strict=True)
    with new_file(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.writelines(f"{query} 0 {product} {grade}\n" for query, product, grade in rows)


def _ids(values: Any, path: Path) -> list[str]:
    """Return ids as texts, which spaces part from each other."""
    if (unfit := unfit_id(values)) is not None:
        remedy = "Give it an id without spaces, or write a table (.csv, .jsonl)."
        raise UserError(f"the id {unfit!r} cannot stand in a TREC file.", file=path, remedy=remedy)
    return [value_text(value) or "" for value in values]


def unfit_id(values: Any) -> str | None:
    """Return the first id that a TREC file cannot hold; a missing one is empty."""
    return next((text for value in values if len((text := value_text(value) or "").split()) != 1), None)


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
        remedy = "Name a file that ends with .parquet."
        raise UserError(f"cannot be written ({error}).", file=out, remedy=remedy) from error
