"""The judged pairs, step by step: what can be used of a file, complete with split, fold, weight and ids."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

import polars as pl
import pyarrow as pa

from zhichun.core.schema import (
    EXAMPLE_ID,
    FOLD,
    JUDGED,
    LABEL,
    LARGE,
    LOCALE,
    ORIGIN,
    PRODUCT_ID,
    QUERY,
    QUERY_ID,
    SMALL,
    SPLIT,
    WEIGHT,
)
from zhichun.data.prepare.clean_pairs import clean
from zhichun.data.prepare.deduplicate import deduplicate
from zhichun.data.prepare.leakage import drop_leaks
from zhichun.data.prepare.match_products import match_products
from zhichun.data.prepare.pair_values import INDEX, ROW, PairOptions
from zhichun.data.prepare.split import split_by_query
from zhichun.data.prepare.steps import Step, StepLog

EXAMPLES_SCHEMA: Final = pa.schema(
    [
        (EXAMPLE_ID, pa.int64()),
        (QUERY, pa.string()),
        (QUERY_ID, pa.int64()),
        (PRODUCT_ID, pa.string()),
        (LOCALE, pa.string()),
        (LABEL, pa.string()),
        (SMALL, pa.int64()),
        (LARGE, pa.int64()),
        (SPLIT, pa.string()),
        (FOLD, pa.int8()),
        (WEIGHT, pa.float32()),
        (ORIGIN, pa.string()),
    ]
)
# The origin of a pair that somebody judged, as against one that a later step made.
# Whether ids are the file's own or were counted.
GIVEN: Final = "given"
COUNTED: Final = "counted"


@dataclass(frozen=True, kw_only=True, eq=False)
class CheckedPairs:
    """Pairs that can be used.

    Attributes
    ----------
    frame
        The columns of `EXAMPLES_SCHEMA`, in the file's order, and what later steps need: the place in the file and the
        query's key.
    ids
        For ``query_id`` and ``example_id``, whether they are ``given`` or ``counted``.
    """

    frame: pl.DataFrame
    ids: Mapping[str, str]


def check_pairs(raw: pl.DataFrame, products: pl.DataFrame, options: PairOptions, log: StepLog) -> CheckedPairs:
    """Drop what cannot be used and complete the rest.

    Parameters
    ----------
    raw
        From `zhichun.data.prepare.pair_values.read_pairs`.
    products
        ``product_id`` and ``product_locale`` of the catalogue.
    options
        How to read them.
    log
        Takes the pairs through the steps; each drops pairs with the first reason that holds.

    Returns
    -------
    CheckedPairs
        No query is in both splits, and no pair is there twice.
    """
    steps: Mapping[str, Step] = {
        "clean": partial(clean, options=options),
        "match products": partial(match_products, products=products),
        "split": partial(split_by_query, options=options),
        "deduplicate": deduplicate,
        "leakage": drop_leaks,
    }
    frame = raw
    for name, step in steps.items():
        frame = log.run(name, step, frame)
    queries = (
        frame.select(QUERY, LOCALE).unique(maintain_order=True).with_row_index(QUERY_ID).cast({QUERY_ID: pl.Int64})
    )
    # By the row of the file, so that a pair has the same id whatever else is dropped: lists of label issues name it.
    rows = frame.select(INDEX, (pl.col(ROW) - 1).alias(EXAMPLE_ID))
    frame, query_ids = _number(frame, QUERY_ID, queries.cast({QUERY_ID: pl.Int64}))
    frame, example_ids = _number(frame, EXAMPLE_ID, rows)
    frame = frame.with_columns(pl.lit(JUDGED).alias(ORIGIN))
    return CheckedPairs(frame=frame, ids={QUERY_ID: query_ids, EXAMPLE_ID: example_ids})


def examples_table(frame: pl.DataFrame) -> pa.Table:
    """Give the pairs as they are written.

    Parameters
    ----------
    frame
        Pairs with the columns of `EXAMPLES_SCHEMA` and any others.

    Returns
    -------
    pyarrow.Table
        With these columns only.
    """
    return frame.select(EXAMPLES_SCHEMA.names).to_arrow().cast(EXAMPLES_SCHEMA)


def _number(frame: pl.DataFrame, name: str, counted: pl.DataFrame) -> tuple[pl.DataFrame, str]:
    """Keep the file's ids if they are whole numbers, one for each thing they identify; otherwise take those counted."""
    identifies = [column for column in counted.columns if column != name]
    if name in frame.columns:
        ids = frame.with_columns(pl.col(name).str.strip_chars().cast(pl.Int64, strict=False))
        things = ids.select(name, *identifies).unique()
        if not ids[name].has_nulls() and things[name].is_unique().all():
            return ids, GIVEN
    return frame.drop(name, strict=False).join(counted, on=identifies, how="left", maintain_order="left"), COUNTED
