"""The step that cleans queries and reads every value of a pair, and drops the pairs that have one without a meaning.

Texts lose HTML and entities, get one Unicode form (NFC) and single spaces, and keep their case; see
`zhichun.text.clean`. The texts of products are cleaned alike, in `zhichun.data.prepare.clean_catalogue`.
"""

import polars as pl

from zhichun.core.schema import LABEL, LARGE, PRODUCT_ID, QUERY, SMALL, SPLIT, WEIGHT
from zhichun.data.prepare.pair_values import INDEX, UNKNOWN, PairOptions, read_values
from zhichun.data.prepare.steps import Refuse
from zhichun.data.readers import rejected as reasons


def clean(raw: pl.DataFrame, refuse: Refuse, *, options: PairOptions) -> pl.DataFrame:
    """Clean pairs; see the module.

    Parameters
    ----------
    raw
        From `zhichun.data.prepare.pair_values.read_pairs`.
    refuse
        Takes what is dropped, each pair with the first reason that holds.
    options
        How to read them.

    Returns
    -------
    polars.DataFrame
        As `zhichun.data.prepare.pair_values.read_values` gives them, in the file's order. A split may still be missing.
    """

    def given(name: str) -> pl.Expr:
        """Say what the file holds, for the list."""
        texts = raw[name] if name in raw.columns else pl.repeat(None, len(raw), dtype=pl.String, eager=True)
        return pl.format("'{}'", pl.col(INDEX).map_batches(texts.gather, return_dtype=pl.String))

    frame = read_values(raw, options)
    frame = refuse(frame, pl.col(PRODUCT_ID).is_null(), reasons.MISSING_ID, given(PRODUCT_ID))
    frame = refuse(frame, pl.col(QUERY).is_null(), reasons.EMPTY_QUERY, given(QUERY))
    frame = refuse(frame, pl.col(LABEL).is_null(), reasons.UNKNOWN_LABEL, given(LABEL))
    frame = refuse(frame, pl.col(SPLIT) == UNKNOWN, reasons.UNKNOWN_SPLIT, given(SPLIT))
    for name in (SMALL, LARGE, WEIGHT):
        frame = refuse(frame, pl.col(name).is_null(), reasons.BAD_NUMBER, pl.format(f"{name} {{}}", given(name)))
    return frame
