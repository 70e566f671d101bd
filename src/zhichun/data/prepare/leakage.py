"""The step that sees to it that nothing is tested, or validated, on what was trained on.

Queries that differ in case, white space or Unicode form are one query here, in whatever locale: they share a fold
because that follows from `zhichun.text.fold.fold_query`, and they must share a split.
"""

import polars as pl

from zhichun.core.schema import FOLD, QUERY, SPLIT, TEST, TRAIN
from zhichun.data.prepare.split import KEY
from zhichun.data.prepare.steps import Refuse
from zhichun.data.readers import rejected as reasons


def drop_leaks(frame: pl.DataFrame, refuse: Refuse) -> pl.DataFrame:
    """Drop the training pairs of queries that are in the test set too.

    Parameters
    ----------
    frame
        Pairs with split, fold and key.
    refuse
        Takes what is dropped.

    Returns
    -------
    polars.DataFrame
        No query is in both splits, nor in two folds.
    """
    tested = frame.filter(pl.col(SPLIT) == TEST).select(KEY).unique().with_columns(tested=True)
    frame = frame.join(tested, on=KEY, how="left", maintain_order="left")
    leaks = (pl.col(SPLIT) == TRAIN) & pl.col("tested")
    frame = refuse(frame, leaks, reasons.LEAKAGE, pl.format("'{}'", QUERY)).drop("tested")
    places = frame.select(KEY, SPLIT, FOLD).unique()
    assert places[KEY].is_unique().all(), "a query is in two folds or in both splits"
    return frame
