"""The step that gives every pair its fold and its split, both by its query.

Both follow from a hash of the query (`zhichun.data.dataset.query_folds`), so that they are the same on every machine
and in every version of Python; a split that the file gives is kept.
"""

from typing import Final

import polars as pl

from zhichun.core.schema import FOLD, QUERY, SPLIT, TEST, TRAIN
from zhichun.data.dataset.query_folds import folds_of, in_test
from zhichun.data.prepare.pair_values import PairOptions
from zhichun.data.prepare.steps import Refuse
from zhichun.text.fold import fold_query

# The form under which queries count as the same, `zhichun.text.fold.fold_query`.
KEY: Final = "key"


def split_by_query(frame: pl.DataFrame, refuse: Refuse, *, options: PairOptions) -> pl.DataFrame:
    """Add fold and key, and the split where the file does not give one.

    Parameters
    ----------
    frame
        Pairs with cleaned queries.
    refuse
        Not used: nothing is dropped.
    options
        How many folds, and the share of queries for testing.

    Returns
    -------
    polars.DataFrame
        All pairs. Pairs of one key have one fold.
    """
    queries = frame[QUERY].unique(maintain_order=True)
    by_query = pl.DataFrame(
        {
            QUERY: queries,
            KEY: [fold_query(query) for query in queries],
            FOLD: folds_of(queries.to_list(), options.folds),
            "drawn": [TEST if in_test(query, options.test_share) else TRAIN for query in queries],
        },
        schema_overrides={KEY: pl.String, "drawn": pl.String},
    )
    frame = frame.join(by_query, on=QUERY, how="left", maintain_order="left")
    return frame.with_columns(pl.coalesce(SPLIT, "drawn").alias(SPLIT)).drop("drawn")
