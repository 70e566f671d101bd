"""The step that gives listed training pairs another label, as a person decided.

The list is one of `zhichun.data.prepare.listed_pairs`, with the new label in the column ``new_label``. Test and
validation pairs keep theirs. What was changed is counted in the manifest and listed in ``relabelled.parquet``, with
both labels.
"""

from collections.abc import Mapping
from typing import Final

import polars as pl

from zhichun.core.schema import EXAMPLE_ID, LABEL, LOCALE, PRODUCT_ID, QUERY
from zhichun.data.prepare.listed_pairs import read_list, refuse_listed
from zhichun.data.prepare.pair_values import ROW
from zhichun.data.readers import rejected as reasons
from zhichun.data.readers.rejected import RejectedRows
from zhichun.data.readers.table import Table
from zhichun.text.fold import fold_grade

NEW_LABEL: Final = "new_label"
COLUMNS: Final = (EXAMPLE_ID, NEW_LABEL)
RELABELLED_FILE: Final = "relabelled.parquet"


def read_changes(frame: pl.DataFrame, listed: Table, labels: Mapping[str, str], rejected: RejectedRows) -> pl.DataFrame:
    """Find out which pairs get which label.

    Parameters
    ----------
    frame
        Pairs with ids, a split and labels.
    listed
        A list with the columns `COLUMNS`.
    labels
        From `zhichun.data.readers.judgements.grade_labels`.
    rejected
        Takes the rows of that list that cannot be used: those that name no pair that may be changed, no label, or
        another label than a row before for the same pair.

    Returns
    -------
    polars.DataFrame
        ``example_id``, ``query``, ``product_id``, ``product_locale``, ``esci_label`` (before) and ``new_label``, one
        row for each pair whose label changes, in the order of the pairs.
    """
    rows = read_list(listed, COLUMNS, frame, rejected)
    meaning = [labels.get(fold_grade(text or "")) for text in rows[NEW_LABEL]]
    rows = rows.with_columns(pl.Series("meaning", meaning, pl.String))
    rows = refuse_listed(rows, pl.col("meaning").is_null(), reasons.UNKNOWN_LABEL, listed, rejected)
    first = pl.col("meaning").first().over(EXAMPLE_ID, order_by=ROW)
    rows = refuse_listed(rows, pl.col("meaning") != first, reasons.TWO_LABELS, listed, rejected)
    new = rows.unique(EXAMPLE_ID).select(EXAMPLE_ID, pl.col("meaning").alias(NEW_LABEL))
    before = frame.select(EXAMPLE_ID, QUERY, PRODUCT_ID, LOCALE, LABEL)
    changes = before.join(new, on=EXAMPLE_ID, how="inner", maintain_order="left")
    return changes.filter(pl.col(NEW_LABEL) != pl.col(LABEL))


def relabel(frame: pl.DataFrame, changes: pl.DataFrame) -> pl.DataFrame:
    """Give pairs their new labels.

    Parameters
    ----------
    frame
        Pairs with ids and labels.
    changes
        From `read_changes`.

    Returns
    -------
    polars.DataFrame
        The same pairs in the same order.
    """
    new = changes.select(EXAMPLE_ID, NEW_LABEL)
    frame = frame.join(new, on=EXAMPLE_ID, how="left", maintain_order="left")
    return frame.with_columns(pl.coalesce(NEW_LABEL, LABEL).alias(LABEL)).drop(NEW_LABEL)
