"""The step that leaves listed judgements out of training: label issues that an audit found, or a person.

The list is a table with the column ``example_id``, in any format that `zhichun.data.sources.open_table` knows; its
other columns do not matter. Test pairs are never dropped: an id that is not that of a training pair is refused.
"""

from pathlib import Path
from typing import Final

import polars as pl
import pyarrow as pa

from zhichun.data import rejected as reasons
from zhichun.data.pair_values import ROW
from zhichun.data.rejected import Refusal, RejectedRows
from zhichun.data.sources import open_table
from zhichun.data.steps import Refuse
from zhichun.data.table import Table
from zhichun.errors import UserError, suggest
from zhichun.schema import EXAMPLE_ID, SPLIT, TEST, TRAIN

_TEXT: Final = "text"


def open_issues(path: Path) -> Table:
    """Open a list of label issues.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    Table
        Ready to be read.

    Raises
    ------
    UserError
        If there is no such file, or it lacks the column ``example_id``.
    """
    table = open_table(path)
    if EXAMPLE_ID not in table.names:
        names = ", ".join(repr(name) for name in table.names) or "no column at all"
        raise UserError(f"no column {EXAMPLE_ID!r}; the file has {names}", remedy=_advice(table), file=path)
    return table


def drop_issues(frame: pl.DataFrame, refuse: Refuse, *, issues: Table, rejected: RejectedRows) -> pl.DataFrame:
    """Drop the training pairs that are listed.

    Parameters
    ----------
    frame
        Pairs with ids and a split.
    refuse
        Takes what is dropped.
    issues
        From `open_issues`. Naming a pair twice is naming it once.
    rejected
        Takes the rows of that list that name no training pair.

    Returns
    -------
    polars.DataFrame
        All other pairs.
    """
    known = frame.select(EXAMPLE_ID, SPLIT)
    listed = _read_ids(issues, rejected).join(known, on=EXAMPLE_ID, how="left", maintain_order="left")
    _refuse(listed.filter(pl.col(EXAMPLE_ID).is_null()), reasons.MALFORMED, issues, rejected)
    listed = listed.filter(pl.col(EXAMPLE_ID).is_not_null())
    _refuse(listed.filter(pl.col(SPLIT).is_null()), reasons.NO_EXAMPLE, issues, rejected)
    _refuse(listed.filter(pl.col(SPLIT) == TEST), reasons.NOT_TRAINING, issues, rejected)
    ids = listed.filter(pl.col(SPLIT) == TRAIN)[EXAMPLE_ID].unique()
    return refuse(frame, pl.col(EXAMPLE_ID).is_in(ids.implode()), reasons.LISTED, pl.format("{}", EXAMPLE_ID))


def _read_ids(issues: Table, rejected: RejectedRows) -> pl.DataFrame:
    parts = [pl.DataFrame(schema={_TEXT: pl.String, ROW: pl.Int64})]
    for batch in issues.batches({EXAMPLE_ID: EXAMPLE_ID}, rejected):
        parts.append(pl.DataFrame(pl.from_arrow(pa.table({_TEXT: batch.columns[EXAMPLE_ID], ROW: batch.rows_N}))))
    # Whole numbers become floats where a column has gaps.
    whole = pl.col(_TEXT).str.strip_chars().str.strip_suffix(".0")
    return pl.concat(parts).with_columns(whole.cast(pl.Int64, strict=False).alias(EXAMPLE_ID))


def _refuse(rows: pl.DataFrame, reason: str, issues: Table, rejected: RejectedRows) -> None:
    for row, text in rows.select(ROW, _TEXT).iter_rows():
        rejected.add(Refusal(issues.path.name, row, reason, f"{EXAMPLE_ID} {text!r}"), {EXAMPLE_ID: text})


def _advice(issues: Table) -> str:
    found = suggest(EXAMPLE_ID, issues.names)
    return f"Name the column {EXAMPLE_ID!r}." + (f" {found}" if found.startswith("Did") else "")
