"""Lists of training pairs by ``example_id``: what an audit of the labels, or a person, wants changed.

A list is a table in any format that `zhichun.data.readers.sources.open_table` knows; columns that a step does not name
do not matter. Only training pairs can be changed: a row that names no pair, or a test pair, is refused. Pairs of
validation queries (`zhichun.data.dataset.query_folds.VALIDATION_BUCKET`) stay as they are too, so that runs with and
without the change are measured on the same pairs; they are passed over, counted and listed, which makes nothing fail.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import polars as pl
import pyarrow as pa

from zhichun.core.errors import UserError, suggest
from zhichun.core.schema import EXAMPLE_ID, QUERY, SPLIT, TEST
from zhichun.data.dataset.query_folds import VALIDATION_BUCKET, buckets_of
from zhichun.data.prepare.pair_values import ROW
from zhichun.data.readers import rejected as reasons
from zhichun.data.readers.columns import find_column
from zhichun.data.readers.rejected import Refusal, RejectedRows
from zhichun.data.readers.sources import open_table
from zhichun.data.readers.table import Table

# What a person writes into a list on which nothing is settled yet (`zhichun.judgements.decisions`).
DECISION: Final = "decision"
_TEXT: Final = "text"
_KNOWN: Final = "known"


def open_list(path: Path, columns: Sequence[str]) -> Table:
    """Open a list of training pairs.

    Parameters
    ----------
    path
        The file.
    columns
        The columns that it must have.

    Returns
    -------
    Table
        Ready to be read.

    Raises
    ------
    UserError
        If there is no such file, it lacks a column, or it holds a person's decisions, which say of each pair whether
        it is kept, dropped or relabelled.
    """
    table = open_table(path)
    if find_column(DECISION, table.names) is not None:
        raise UserError(
            "holds decisions, kept pairs among them",
            remedy="Make the lists of them first: zhichun audit --data DATA --out AUDIT --accept FILE",
            file=path,
        )
    for column in columns:
        if find_column(column, table.names) is None:
            names = ", ".join(repr(name) for name in table.names) or "no column at all"
            raise UserError(f"no column {column!r}; the file has {names}", remedy=_advice(column, table), file=path)
    return table


def read_list(table: Table, columns: Sequence[str], frame: pl.DataFrame, rejected: RejectedRows) -> pl.DataFrame:
    """Read a list and keep what names a training pair that may be changed.

    Parameters
    ----------
    table
        From `open_list`.
    columns
        ``example_id`` and what else is wanted.
    frame
        Pairs with ids and a split.
    rejected
        Takes the other rows of the list.

    Returns
    -------
    polars.DataFrame
        The columns, the ids as numbers and the others as text, and the row in the file. A pair that is listed twice is
        there twice.
    """
    listed = _read(table, columns, rejected)
    listed = refuse_listed(listed, pl.col(EXAMPLE_ID).is_null(), reasons.MALFORMED, table, rejected)
    listed = listed.join(
        frame.select(EXAMPLE_ID, QUERY, pl.col(SPLIT).alias(_KNOWN)), on=EXAMPLE_ID, how="left", maintain_order="left"
    )
    listed = refuse_listed(listed, pl.col(_KNOWN).is_null(), reasons.NO_EXAMPLE, table, rejected)
    listed = refuse_listed(listed, pl.col(_KNOWN) == TEST, reasons.NOT_TRAINING, table, rejected)
    validated = pl.Series(buckets_of(listed[QUERY].to_list()) == VALIDATION_BUCKET)
    listed = refuse_listed(listed, validated, reasons.VALIDATION, table, rejected)
    return listed.select(*columns, ROW)


def refuse_listed(
    listed: pl.DataFrame, condition: pl.Expr | pl.Series, reason: str, table: Table, rejected: RejectedRows
) -> pl.DataFrame:
    """Move rows of a list onto the list of refused rows.

    Parameters
    ----------
    listed
        Rows with the columns of a list and the row in the file.
    condition
        Which to move.
    reason
        One of `zhichun.data.readers.rejected`'s reasons.
    table
        The list.
    rejected
        Takes them.

    Returns
    -------
    polars.DataFrame
        The other rows.
    """
    kept = [name for name in listed.columns if find_column(name, table.names) and name not in (EXAMPLE_ID, QUERY)]
    for record in listed.filter(condition).iter_rows(named=True):
        text = record[_TEXT] if _TEXT in record else str(record[EXAMPLE_ID])
        values = {EXAMPLE_ID: text, **{name: record[name] for name in kept}}
        detail = ", ".join(f"{name} {value!r}" for name, value in values.items())
        rejected.add(Refusal(table.path.name, record[ROW], reason, detail), values)
    return listed.filter(~condition)


def _read(table: Table, columns: Sequence[str], rejected: RejectedRows) -> pl.DataFrame:
    names = {_TEXT if name == EXAMPLE_ID else name: str(find_column(name, table.names)) for name in columns}
    parts = [pl.DataFrame(schema={**dict.fromkeys(names, pl.String), ROW: pl.Int64})]
    for batch in table.batches(names, rejected):
        parts.append(pl.DataFrame(pl.from_arrow(pa.table({**batch.columns, ROW: batch.rows_N}))))
    # Whole numbers become floats where a column has gaps.
    whole = pl.col(_TEXT).str.strip_chars().str.strip_suffix(".0")
    return pl.concat(parts).with_columns(whole.cast(pl.Int64, strict=False).alias(EXAMPLE_ID))


def _advice(column: str, table: Table) -> str:
    found = suggest(column, table.names)
    return f"Name the column {column!r}." + (f" {found}" if found.startswith("Did") else "")
