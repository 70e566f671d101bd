"""The step that keeps every pair once, and none that was given two labels.

A pair is a query, a locale and a product. Its copies in training and test are both kept here: which of them goes is a
matter of leakage.
"""

from typing import Final

import polars as pl

from zhichun.core.schema import LABEL, LOCALE, PRODUCT_ID, QUERY, SPLIT
from zhichun.data.prepare.steps import Refuse
from zhichun.data.readers import rejected as reasons

PAIR: Final = (QUERY, LOCALE, PRODUCT_ID)


def deduplicate(frame: pl.DataFrame, refuse: Refuse) -> pl.DataFrame:
    """Drop all copies of a pair whose labels conflict, and all but the first where they agree.

    Parameters
    ----------
    frame
        Pairs with a split.
    refuse
        Takes what is dropped; conflicting labels are said.

    Returns
    -------
    polars.DataFrame
        Every pair once in each split.
    """
    repeated = pl.struct(PAIR).is_duplicated()
    if frame.select(repeated.any()).item():
        labels = _conflicts(frame.filter(repeated))
        frame = frame.join(labels, on=PAIR, how="left", maintain_order="left")
        frame = refuse(frame, pl.col("labels").is_not_null(), reasons.TWO_LABELS, pl.col("labels")).drop("labels")
        first = pl.struct(*PAIR, SPLIT).is_first_distinct()
        frame = refuse(frame, ~first, reasons.DUPLICATE, pl.format("'{}'", PRODUCT_ID))
    return frame


def _conflicts(frame: pl.DataFrame) -> pl.DataFrame:
    """List the pairs with more than one label, with these."""
    labels = frame.group_by(PAIR).agg(pl.col(LABEL).unique().sort())
    return labels.filter(pl.col(LABEL).list.len() > 1).select(*PAIR, pl.col(LABEL).list.join(" and ").alias("labels"))
