"""The step that leaves listed judgements out of training: label issues that an audit found, or a person.

The list is one of `zhichun.data.prepare.listed_pairs`. Test and validation pairs are never dropped.
"""

import polars as pl

from zhichun.core.schema import EXAMPLE_ID
from zhichun.data.prepare.listed_pairs import read_list
from zhichun.data.prepare.steps import Refuse
from zhichun.data.readers import rejected as reasons
from zhichun.data.readers.rejected import RejectedRows
from zhichun.data.readers.table import Table

COLUMNS = (EXAMPLE_ID,)


def drop_issues(frame: pl.DataFrame, refuse: Refuse, *, issues: Table, rejected: RejectedRows) -> pl.DataFrame:
    """Drop the training pairs that are listed.

    Parameters
    ----------
    frame
        Pairs with ids and a split.
    refuse
        Takes what is dropped.
    issues
        A list with the columns `COLUMNS`. Naming a pair twice is naming it once.
    rejected
        Takes the rows of that list that name no pair that may be dropped.

    Returns
    -------
    polars.DataFrame
        All other pairs.
    """
    ids = read_list(issues, COLUMNS, frame, rejected)[EXAMPLE_ID].unique()
    return refuse(frame, pl.col(EXAMPLE_ID).is_in(ids.implode()), reasons.LISTED, pl.format("{}", EXAMPLE_ID))
