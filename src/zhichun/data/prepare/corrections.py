"""The steps that correct listed training pairs: leave them out of training, or give them another label.

A list names pairs by ``example_id``, from an audit of the labels or a person. It is a table in any
format that `zhichun.data.readers.sources.open_table` knows; other columns are ignored. Only
training pairs can be changed: a row with an unknown or a test pair is refused.

Runs with and without a change are measured on the same pairs. What is left out stays in the dataset with the weight 0:
it is not trained on, nothing is made of it, and it is validated on in whatever fold. What would get another label is
passed over, counted and listed where it is of a validation query
(`zhichun.data.dataset.VALIDATION_BUCKET`), which makes nothing fail.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import polars as pl

from zhichun.core.errors import UserError, suggest
from zhichun.core.schema import EXAMPLE_ID, LABEL, LOCALE, PRODUCT_ID, QUERY, SPLIT, TEST, WEIGHT
from zhichun.data.dataset import VALIDATION_BUCKET, buckets_of
from zhichun.data.prepare.judges import renew_targets
from zhichun.data.prepare.steps import Refuse, read_rows
from zhichun.data.readers import rejected as reasons
from zhichun.data.readers.rejected import RejectedRows
from zhichun.data.readers.sources import find_column, no_column, open_table
from zhichun.data.readers.table import Table
from zhichun.text.fold import label_of

NEW_LABEL: Final = "new_label"
RELABELLED_FILE: Final = "relabelled.parquet"
# What a person writes into a list on which nothing is settled yet (`zhichun.judgements.findings`).
DECISION: Final = "decision"
_SAID: Final = pl.col("said")


def drop_listed(frame: pl.DataFrame, refuse: Refuse, *, listed: Table, rejected: RejectedRows) -> pl.DataFrame:
    """Set the weight of listed judgements to 0, so that they are not trained on; duplicates are ignored.

    Parameters
    ----------
    frame, refuse
        As of every step; pairs with ids and a split.
    listed
        From `open_list`.
    rejected
        Collects the rows of the list with a pair that cannot be dropped.
    """
    rows, _ = _read_list(listed, frame, rejected)
    ids = rows[EXAMPLE_ID].unique()
    refuse.note(untrained=len(ids))
    weight = pl.when(pl.col(EXAMPLE_ID).is_in(ids.implode())).then(0.0).otherwise(pl.col(WEIGHT))
    return frame.with_columns(weight.cast(pl.Float32).alias(WEIGHT))


def relabel_listed(
    frame: pl.DataFrame, refuse: Refuse, *, listed: Table, rejected: RejectedRows, labels: Mapping[str, str], out: Path
) -> pl.DataFrame:
    """Change the label of listed training pairs to ``new_label``; changes are listed with both labels.

    Parameters
    ----------
    frame, refuse
        As of every step; pairs with ids, a split and labels.
    listed
        From `open_list`.
    rejected
        Collects the invalid rows of the list: those that name no pair that may be changed, no label, or
        another label than a row before for the same pair.
    labels
        From `zhichun.text.fold.grade_labels`.
    out
        File for the list of changes: ``example_id``, ``query``, ``product_id``, ``product_locale``,
        ``esci_label`` (before) and ``new_label``, a row for each pair whose label changes, in the order of the pairs.
    """
    changes = _changes(frame, listed, rejected, labels)
    changes.write_parquet(out)
    refuse.note(changed=len(changes))
    frame = frame.join(changes.select(EXAMPLE_ID, NEW_LABEL), on=EXAMPLE_ID, how="left", maintain_order="left")
    frame = frame.with_columns(pl.coalesce(NEW_LABEL, LABEL).alias(LABEL))
    return renew_targets(frame, pl.col(NEW_LABEL).is_not_null()).drop(NEW_LABEL)


def _changes(frame: pl.DataFrame, listed: Table, rejected: RejectedRows, labels: Mapping[str, str]) -> pl.DataFrame:
    # A pair that is left out cannot get another label too.
    rows, refuse = _read_list(listed, frame.filter(pl.col(WEIGHT) > 0), rejected, NEW_LABEL)
    validated = pl.Series(buckets_of(rows[QUERY].to_list()) == VALIDATION_BUCKET)
    rows = refuse(rows, validated, reasons.VALIDATION, _SAID)
    meanings = [label_of(text, labels) or None for text in rows[NEW_LABEL]]
    rows = rows.with_columns(pl.Series(NEW_LABEL, meanings, pl.String))
    rows = refuse(rows, pl.col(NEW_LABEL).is_null(), reasons.UNKNOWN_LABEL, _SAID)
    first = pl.col(NEW_LABEL).first().over(EXAMPLE_ID)
    rows = refuse(rows, pl.col(NEW_LABEL) != first, reasons.TWO_LABELS, _SAID)
    new = rows.unique(EXAMPLE_ID).select(EXAMPLE_ID, NEW_LABEL)
    before = frame.select(EXAMPLE_ID, QUERY, PRODUCT_ID, LOCALE, LABEL)
    changes = before.join(new, on=EXAMPLE_ID, how="inner", maintain_order="left")
    return changes.filter(pl.col(NEW_LABEL) != pl.col(LABEL))


def open_list(path: Path, *more: str) -> Table:
    """Open a list of training pairs, with their ids and more columns."""
    table = open_table(path)
    if find_column(DECISION, table.names) is not None:
        remedy = "Make the lists of them first: zhichun audit --data DATA --out AUDIT --accept FILE"
        raise UserError("holds decisions, kept pairs among them", file=path, remedy=remedy)
    for column in (EXAMPLE_ID, *more):
        if find_column(column, table.names) is None:
            near = suggest(column, table.names)
            remedy = f"Name the column {column!r}." + (f" {near}" if near.startswith("Did") else "")
            raise no_column(repr(column), table, remedy)
    return table


def _read_list(table: Table, frame: pl.DataFrame, rejected: RejectedRows, *more: str) -> tuple[pl.DataFrame, Refuse]:
    """Read a list, and keep the rows with a training pair that may be changed; a pair may occur twice.

    Also returned is what refuses further rows of the list, with what they say as ``said``.
    """
    columns = {name: str(find_column(name, table.names)) for name in (EXAMPLE_ID, *more)}
    raw = read_rows(table, columns, rejected)
    refuse = Refuse(raw, rejected, table.path.name)
    said = [pl.format(f"{name} '{{}}'", pl.col(name).fill_null("")) for name in columns]
    # Whole numbers become floats where a column has gaps.
    whole = pl.col(EXAMPLE_ID).str.strip_chars().str.strip_suffix(".0").cast(pl.Int64, strict=False)
    rows = raw.with_columns(whole, pl.concat_str(said, separator=", ").alias("said"))
    rows = rows.join(frame.select(EXAMPLE_ID, QUERY, SPLIT), on=EXAMPLE_ID, how="left", maintain_order="left")
    rows = refuse(rows, pl.col(SPLIT).is_null(), reasons.NO_EXAMPLE, _SAID)
    return refuse(rows, pl.col(SPLIT) == TEST, reasons.NOT_TRAINING, _SAID), refuse
